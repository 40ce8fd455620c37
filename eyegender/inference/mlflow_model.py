"""The MLflow model. MLflow runs this file when it loads the model: code, not a pickle, rebuilds the network."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray


class EyeModel(PythonModel):
    """Pictures to probabilities of male, float32 of shape (N,)."""

    def load_context(self, context: PythonModelContext) -> None:
        from eyegender.models.saved_network import load_network

        self.network, self.card = load_network(Path(context.artifacts["network"]))

    # MLflow reads this hint when it loads the file (hence no postponed annotations): an array, not validated further.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> NDArray[np.float32]:  # noqa: ARG002
        from eyegender.inference.images import as_pixels
        from eyegender.models.saved_network import probabilities

        return probabilities(self.network, self.card, as_pixels(model_input, self.card.size, self.card.color))


set_model(EyeModel())
