"""A local web page that shows the probability and the Grad-CAM heat map of an image, for a model of the user's choice.

The page is one HTML file that refers to no other, served by FastAPI, which MLflow depends on. Nothing is loaded from
elsewhere, and no image leaves this machine.
"""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from starlette.middleware.trustedhost import TrustedHostMiddleware

from eyegender.core.errors import UserError
from eyegender.core.eye_study import is_eye_study
from eyegender.data.decode import decode, to_pixels
from eyegender.data.readers import UnreadableImageError
from eyegender.inference.grad_cam import grad_cam, overlay
from eyegender.inference.load import classes_of
from eyegender.plots.pages import render_page
from eyegender.tracking.run_artifacts import logged_model, trial_folder
from eyegender.tracking.tracking_store import is_training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from mlflow.entities import Run
    from numpy.typing import NDArray

    from eyegender.inference.load import LoadedModel
    from eyegender.tracking.tracking_store import TrackingStore

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAGE = Path(__file__).parent / "templates" / "demo.html"
MAX_BYTES = 20_000_000
MAX_MODELS = 20
_COUNT = "count.train."
MOST_CLASSES = 5  # whose probabilities are shown
IMAGE_SIZE = 288  # side in pixels of the images on the page


@dataclass(frozen=True)
class DemoModel:
    """A model that the page offers.

    Args:
        reference: reference of the model, as `load_model` takes it.
        title: name of the model on the page.
        eyes: whether it belongs to the eye study, whose page says what it must not be used for.
    """

    reference: str
    title: str
    eyes: bool = True


def find_models(store: TrackingStore, experiment: str, references: Sequence[str] | None) -> list[DemoModel]:
    """The given models, or else every registered alias and the newest finished runs with a model.

    Raises:
        UserError: there is no model.
    """
    if references is not None:
        return [DemoModel(reference, reference, _is_of_eyes(store, reference)) for reference in references]
    models = [
        DemoModel(
            reference := f"models:/{model.name}@{alias}",
            f"{model.name}@{alias} (version {version})",
            _is_of_eyes(store, reference),
        )
        for model in store.client.search_registered_models()
        for alias, version in sorted(model.aliases.items())
    ]
    for run in store.search([store.experiment_id(experiment)], "attributes.status = 'FINISHED'"):
        if len(models) >= MAX_MODELS:
            break
        if is_training(run) and (logged_model(store, run.info.run_id) or trial_folder(run)) is not None:
            reference = f"runs:/{run.info.run_id}"
            # A run logs how many training images each class has.
            classes = [name.removeprefix(_COUNT) for name in run.data.params if name.startswith(_COUNT)]
            known = bool(classes) or _COUNT.rstrip(".") in run.data.params  # of many classes, their sum
            models.append(DemoModel(reference, _title(run), is_eye_study(classes) or not known))
    if not models:
        raise UserError(f"experiment {experiment!r} in {store.name} has no finished run with a model; train first")
    return models


def _is_of_eyes(store: TrackingStore, reference: str) -> bool:
    """Whether a model belongs to the eye study, as far as is known without loading it; otherwise true."""
    try:
        classes = classes_of(store, reference)
    except (UserError, OSError, ValueError, TypeError, KeyError):  # the page reports it when the model is used
        return True
    return classes is None or is_eye_study(classes)


def _title(run: Run) -> str:
    accuracy = run.data.metrics.get("test/accuracy")
    result = f", {100 * accuracy:.1f}% on its test set" if accuracy is not None else ""
    return f"{run.data.params['model.name']} {run.info.run_id[:8]}{result}"


def demo_app(models: Sequence[DemoModel], load: Callable[[str], LoadedModel], host: str = "127.0.0.1") -> FastAPI:
    """The page, and the endpoint to which it sends an image.

    Args:
        models: the models to offer, in this order; a request for any other model is refused.
        load: loads the model of a reference; called once per model, at the first request for it.
        host: address that the server listens on; on a loopback address it accepts only the host names in `LOOPBACK`.
    """
    app = FastAPI(title="eyegender", docs_url=None, redoc_url=None, openapi_url=None)
    # Against DNS rebinding: a page elsewhere whose host name resolves to this machine is refused.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK) if host in LOOPBACK else ["*"])
    offered = {model.reference for model in models}
    loaded: dict[str, LoadedModel] = {}
    lock = threading.Lock()  # Grad-CAM registers hooks in the network

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return _render_page(models)

    @app.post("/predict")
    async def predict(request: Request, model: str) -> JSONResponse:
        from fastapi.concurrency import run_in_threadpool

        if model not in offered:
            return JSONResponse({"error": f"no model {model} here"}, 404)
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_BYTES:
                return JSONResponse({"error": f"an image may have at most {MAX_BYTES // 1_000_000} MB"}, 413)
        return await run_in_threadpool(respond, model, bytes(data))

    def respond(reference: str, data: bytes) -> JSONResponse:
        try:
            image = decode(data)
            with lock:
                if reference not in loaded:
                    loaded[reference] = load(reference)
                return JSONResponse(predict_image(loaded[reference], image))
        except UnreadableImageError as error:
            return JSONResponse({"error": f"this image cannot be read: {error}"}, 422)
        except UserError as error:
            return JSONResponse({"error": str(error)}, 422)

    return app


def predict_image(model: LoadedModel, image: Image.Image) -> dict[str, Any]:
    """What the page shows of an image: probability, label, the model's input and, if grad-cam is installed, a heat map.

    Images are data URIs of PNG files.
    """
    spec = model.spec
    pixels = to_pixels(image, spec.size, spec.color)[None]
    found = model.probabilities(pixels)[0]
    result: dict[str, Any] = {"eyes": is_eye_study(spec.classes), "input": _data_uri(pixels[0])}
    if spec.outputs == 1:
        p = float(found)
        result |= {"probability": p, "positive": spec.classes[1], "label": spec.classes[int(p > 0.5)]}
        result["confidence"] = max(p, 1 - p)
    else:
        likely = [int(k) for k in (-found).argsort(kind="stable")[:MOST_CLASSES]]
        result |= {"label": spec.classes[likely[0]], "confidence": float(found[likely[0]])}
        result["classes"] = [{"name": spec.classes[k], "probability": float(found[k])} for k in likely]
    try:
        result["grad_cam"] = _data_uri(overlay(pixels, grad_cam(model, pixels))[0])
    except UserError as error:
        result["grad_cam_error"] = str(error)
    return result


def _render_page(models: Sequence[DemoModel]) -> str:
    return render_page(PAGE, models=models)


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    """Pixels (C, S, S) as a PNG, enlarged without smoothing so that the model's input is visible pixel by pixel."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    content = io.BytesIO()
    image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.NEAREST).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
