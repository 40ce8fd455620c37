"""The MLflow model. MLflow runs this file when it loads the model: code, not a pickle, rebuilds the network."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

BATCH = 256


class EyeModel(PythonModel):
    """Pictures to probabilities of male, float32 of shape (N,)."""

    def load_context(self, context: PythonModelContext) -> None:
        from eyegender.serving.saved_network import load_network

        self.network, self.card = load_network(Path(context.artifacts["network"]))

    # MLflow reads this hint when it loads the file (hence no postponed annotations): an array, not validated further.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> NDArray[np.float32]:  # noqa: ARG002
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
