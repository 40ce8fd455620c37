"""The logged MLflow model: raw images in, probabilities out.

MLflow copies this file into the logged model and runs it when the model is loaded, so no pickle is involved.
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray


class EyeModel(PythonModel):
    """Predicts the probabilities of raw images: float32 (N,) of label 1, or (N, K) of each of K classes."""

    def load_context(self, context: PythonModelContext) -> None:
        from eyegender.models.saved_network import load_network

        self.network, self.spec = load_network(Path(context.artifacts["network"]))

    # MLflow reads the type hint of model_input, so this file must not postpone the evaluation of annotations. With an
    # array as the hint, MLflow passes any input on without validating it.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> NDArray[np.float32]:  # noqa: ARG002
        from eyegender.inference.raw_images import as_pixels
        from eyegender.models.saved_network import probabilities

        return probabilities(self.network, self.spec, as_pixels(model_input, self.spec.size, self.spec.color))


set_model(EyeModel())
