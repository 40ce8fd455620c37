"""The MLflow model. MLflow runs this file when it loads the model: code, not a pickle, rebuilds the network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

if TYPE_CHECKING:
    import numpy as np
    from mlflow.pyfunc.model import PythonModelContext
    from numpy.typing import NDArray

BATCH = 256

# `predict` takes more kinds of input than a type hint of MLflow's can say.
warnings.filterwarnings("ignore", message=".*Add type hints to the `predict` method.*")


class EyeModel(PythonModel):
    """Pictures to probabilities of male, float32 of shape (N,)."""

    def load_context(self, context: PythonModelContext) -> None:
        from eyegender.serving.saved_network import load_network

        self.network, self.card = load_network(Path(context.artifacts["network"]))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> NDArray[np.float32]:  # noqa: ARG002
        import numpy as np
        import torch

        from eyegender.serving.pictures import as_pixels

        pixels = torch.from_numpy(as_pixels(model_input, self.card.size, self.card.color))
        parts = [np.zeros(0, np.float32)]
        with torch.inference_mode():
            for batch in torch.split(pixels, BATCH):
                logits = self.network(batch)
                if self.card.flip_average:
                    logits = (logits + self.network(batch.flip(3))) / 2
                parts.append(torch.sigmoid(logits).numpy())
        return np.concatenate(parts)


set_model(EyeModel())
