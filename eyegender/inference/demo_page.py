"""A small web page where a picture gets its probability and its Grad-CAM from a model that one chooses.

Built on FastAPI, which MLflow brings along, and on one HTML file without any reference to another: nothing is loaded
from elsewhere, and nothing leaves this machine.
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
from eyegender.data.decode import decode, to_pixels
from eyegender.data.samples import BadPictureError
from eyegender.inference.grad_cam import explain, overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from eyegender.inference.load import LoadedModel

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # pictures of faces are nobody else's business
PAGE = Path(__file__).parent / "templates" / "demo.html"
MAX_BYTES = 20_000_000
SHOWN_SIDE = 288


@dataclass(frozen=True)
class Choice:
    """A model that the page offers.

    Args:
        reference: as `load_model` takes it.
        title: for people.
    """

    reference: str
    title: str


def demo_app(choices: Sequence[Choice], load: Callable[[str], LoadedModel], host: str = "127.0.0.1") -> FastAPI:
    """The page and the one address that it asks.

    Args:
        choices: offered in this order; only these are loaded, whatever a request says.
        load: from a reference to its model; each is loaded once, when it is first asked for.
        host: where it will listen; on this machine alone it also answers to this machine's own names alone.
    """
    app = FastAPI(title="eyegender", docs_url=None, redoc_url=None, openapi_url=None)
    # A page elsewhere that gives its own name this machine's address gets no answer.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK) if host in LOOPBACK else ["*"])
    known = {choice.reference for choice in choices}
    loaded: dict[str, LoadedModel] = {}
    one_at_a_time = threading.Lock()  # Grad-CAM hooks into the network

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return _page(choices)

    @app.post("/ask")
    async def ask(request: Request, model: str) -> JSONResponse:
        from fastapi.concurrency import run_in_threadpool

        if model not in known:
            return JSONResponse({"error": f"no model {model} here"}, 404)
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > MAX_BYTES:
                return JSONResponse({"error": f"a picture may have {MAX_BYTES // 1_000_000} MB"}, 413)
        return await run_in_threadpool(answered, model, bytes(data))

    def answered(reference: str, data: bytes) -> JSONResponse:
        try:
            image = decode(data)
            with one_at_a_time:
                if reference not in loaded:
                    loaded[reference] = load(reference)
                return JSONResponse(answer(loaded[reference], image))
        except BadPictureError as error:
            return JSONResponse({"error": f"this picture cannot be read: {error}"}, 422)
        except UserError as error:
            return JSONResponse({"error": str(error)}, 422)

    return app


def answer(model: LoadedModel, image: Image.Image) -> dict[str, Any]:
    """Probability, label and, where grad-cam is installed, what spoke for it, as data URIs of PNG files."""
    card = model.card
    pixels = to_pixels(image, card.size, card.color)[None]
    p = float(model.probabilities(pixels)[0])
    found: dict[str, Any] = {
        "probability": p,
        "positive": card.classes[1],
        "label": card.classes[int(p > 0.5)],
        "seen": _as_uri(pixels[0]),
    }
    try:
        found["grad_cam"] = _as_uri(overlay(pixels, explain(model, pixels))[0])
    except UserError as error:
        found["without_grad_cam"] = str(error)
    return found


def _page(choices: Sequence[Choice]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(PAGE.read_text(encoding="utf-8")).render(choices=choices)


def _as_uri(pixels: NDArray[np.uint8]) -> str:
    """(C, S, S) to a PNG, enlarged without smoothing, so that one sees what the model sees."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    content = io.BytesIO()
    image.resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.NEAREST).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
