"""A local web page that shows the probability and the Grad-CAM heat map of an image, for a model of the user's choice.

The page is one HTML file that refers to no other, served by FastAPI, which MLflow depends on. Nothing is loaded from
elsewhere, and no image leaves this machine.
"""

from __future__ import annotations

import base64
import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from PIL import Image
from starlette.middleware.trustedhost import TrustedHostMiddleware

from eyegender.core.errors import UserError
from eyegender.core.eye_study import is_eye_study
from eyegender.data.decode import decode, to_pixels
from eyegender.data.readers import UnreadableImageError
from eyegender.inference.grad_cam import grad_cam, overlay
from eyegender.plots.pages import render_page

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from eyegender.inference.demo_models import DemoModel, Offer
    from eyegender.inference.load import LoadedModel

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAGE = Path(__file__).parent / "templates" / "demo.html"
MAX_BYTES = 20_000_000
MOST_CLASSES = 5  # whose probabilities are shown
IMAGE_SIZE = 288  # side in pixels of the images on the page


def demo_app(
    offer: Offer,
    load: Callable[[str], LoadedModel],
    example: Callable[[DemoModel], bytes | None] | None = None,
    host: str = "127.0.0.1",
) -> FastAPI:
    """The page, and the endpoint to which it sends an image.

    Args:
        offer: the models to offer, in this order; a request for any other model is refused.
        load: loads the model of a reference; called once per model, at the first request for it.
        example: gives a picture to try a model on, as PNG, or None; None offers no examples.
        host: address that the server listens on; on a loopback address it accepts only the host names in `LOOPBACK`.
    """
    app = FastAPI(title="eyegender", docs_url=None, redoc_url=None, openapi_url=None)
    # Against DNS rebinding: a page elsewhere whose host name resolves to this machine is refused.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK) if host in LOOPBACK else ["*"])
    offered = {model.reference: model for model in offer.models}
    loaded: dict[str, LoadedModel] = {}
    lock = threading.Lock()  # Grad-CAM registers hooks in the network

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return _render_page(offer)

    @app.get("/example")
    def example_picture(model: str) -> Response:
        found = example(offered[model]) if example is not None and model in offered else None
        return Response(status_code=404) if found is None else Response(found, media_type="image/png")

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


def _render_page(offer: Offer) -> str:
    shown = [model for model in offer.models if not model.hidden]
    hidden = [model for model in offer.models if model.hidden]
    facts = {model.reference: {"eyes": model.eyes, "expects": model.expects} for model in offer.models}
    return render_page(PAGE, shown=shown, hidden=hidden, notes=offer.notes, facts=facts)


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    """Pixels (C, S, S) as a PNG, enlarged without smoothing so that the model's input is visible pixel by pixel."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    content = io.BytesIO()
    image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.NEAREST).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
