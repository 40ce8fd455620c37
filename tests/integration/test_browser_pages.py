"""What a person sees on the comparison page and in the demo, on a desktop and on a phone, in a real Chromium."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from eyegender.comparison.comparison import compare
from eyegender.comparison.page import write_comparison
from eyegender.core.errors import UserError
from eyegender.inference import demo_page
from eyegender.inference.demo_models import DemoModel, Offer
from eyegender.inference.demo_page import demo_app
from tests.integration.browser import MARKS, SLOW, opened_page
from tests.unit.comparison.example_runs import run, table

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = MARKS

DESKTOP, PHONE = (1440, 860), (390, 844)
LONG = "a run whose user gave it a name that is far longer than a phone is wide"


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest) -> Iterator[sync_api.Page]:
    with opened_page(*request.param) as page:
        yield page


def height(page: sync_api.Page) -> int:
    assert page.viewport_size is not None
    return int(page.viewport_size["height"])


def fits(page: sync_api.Page) -> bool:
    """Nobody scrolls the page sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def lower_end(page: sync_api.Page, selector: str) -> float:
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    return float(box["y"] + box["height"])


def test_the_first_screen_has_the_answer_and_the_chart(tmp_path: Path, page: sync_api.Page) -> None:
    write_comparison(compare([run("strong", table(2, 3.0)), run(LONG, table(1, 0.2))], n_resamples=200), tmp_path)
    page.goto((tmp_path / "comparison.html").as_uri())
    answer = page.locator(".answer")
    sync_api.expect(answer).to_contain_text(f"strong is better than {LONG} by ")
    assert lower_end(page, ".answer") < height(page) / 2
    assert lower_end(page, ".intervals .row.ends") < height(page)
    assert fits(page)
    rows = page.get_by_role("listitem")
    assert [text.partition("\n")[0] for text in rows.all_inner_texts()] == ["#1 strong highest", f"#2 {LONG}"]
    # The better run is further to the right on the scale, and its interval is drawn around it.
    boxes = [
        {part: rows.nth(i).locator(f".{part}").bounding_box() for part in ("dot", "bar", "scale", "value")}
        for i in range(2)
    ]
    for box in boxes:
        dot, bar, scale = (box[part] for part in ("dot", "bar", "scale"))
        assert dot is not None
        assert bar is not None
        assert scale is not None
        assert bar["x"] < dot["x"] + dot["width"] / 2 <= bar["x"] + bar["width"] + 1
        assert scale["x"] <= bar["x"] + 1
        assert bar["x"] + bar["width"] <= scale["x"] + scale["width"] + 1
    assert boxes[0]["dot"]["x"] > boxes[1]["dot"]["x"]  # type: ignore[index]


def test_wide_tables_scroll_in_their_own_box(tmp_path: Path, page: sync_api.Page) -> None:
    write_comparison(compare([run(f"r{i}", table(i, 1.0)) for i in range(3)], n_resamples=200), tmp_path)
    page.goto((tmp_path / "comparison.html").as_uri())
    assert fits(page)
    widths = page.locator(".scroll").evaluate_all("boxes => boxes.map(box => [box.scrollWidth, box.clientWidth])")
    assert widths
    on_phone = page.viewport_size == {"width": PHONE[0], "height": PHONE[1]}
    assert any(inner > outer for inner, outer in widths) == on_phone
    # A drawing stays readable: it is as wide as the screen, or wider in its own box.
    drawn = page.locator("figure img").evaluate_all("all => all.map(image => image.getBoundingClientRect().width)")
    assert all(width >= 350 for width in drawn)


def test_validation_numbers_are_marked(tmp_path: Path, page: sync_api.Page) -> None:
    left_out = ["12 pruned trials are not compared."]
    records = [run(f"r{i}", table(i, 1.0)) for i in range(3)]
    write_comparison(compare(records, part="val", left_out=left_out, n_resamples=200), tmp_path)
    page.goto((tmp_path / "comparison.html").as_uri())
    heading = page.get_by_role("heading", name="Comparison of 3 runs on validation images")
    sync_api.expect(heading).to_be_visible()
    warning = page.locator(".warning")
    sync_api.expect(warning).to_contain_text("These numbers are from the validation images")
    assert lower_end(page, ".warning") < height(page)
    sync_api.expect(page.get_by_role("heading", name="Validation metrics")).to_be_visible()
    sync_api.expect(page.get_by_text("12 pruned trials are not compared.").first).to_be_visible()
    assert fits(page)


def stub(reference: str) -> Any:
    """A model that sees a dog in every image, whatever the image."""
    if reference == "runs:/gone":
        raise UserError("no run gone in the store; copy a run's id from the MLflow page")
    spec = SimpleNamespace(size=32, color="rgb", classes=("cats", "dogs"), outputs=1)
    return SimpleNamespace(spec=spec, probabilities=lambda pixels: np.full(len(pixels), 0.8, np.float32))


def example(model: DemoModel) -> bytes | None:
    content = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 120, 40)).save(content, "PNG")
    return None if model.reference == "runs:/gone" else content.getvalue()


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a demo of two models of pets, one of eyes, and two hidden ones."""

    def refuse(*_: object) -> Any:
        raise UserError("a heat map needs grad-cam; install eyegender[explain]")

    monkeypatch.setattr(demo_page, "grad_cam", refuse)
    expects = "Expects an image like those it was trained on. Its answer is always one of its classes: cats or dogs."
    models = [
        DemoModel(
            "runs:/pets", "mobilenet_v2 on pets · 91.2% (88.0 to 94.1%) · 2026-11-27", eyes=False, expects=expects
        ),
        DemoModel("runs:/gone", f"inception_v3 on {LONG} · 88.1% (85.0 to 91.0%) · 2026-11-26", eyes=False),
        DemoModel("runs:/eyes", "mobilenet_v2 on CelebA · 95.0% (94.0 to 96.0%) · 2026-11-25", expects="One eye."),
        DemoModel("runs:/bad1", "mobilenet_v2 on pets · 51.0% (44.0 to 58.0%) · 2026-11-24", eyes=False, hidden=True),
        DemoModel("runs:/bad2", "mobilenet_v2 on pets · 50.0% (43.0 to 57.0%) · 2026-11-24", eyes=False, hidden=True),
    ]
    app = demo_app(Offer(models, ["8 pruned trials are not listed."]), stub, example)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


def test_the_demo_says_what_the_model_is_and_expects(demo: str, page: sync_api.Page) -> None:
    expect = sync_api.expect
    page.goto(demo)
    expect(page.locator("#title")).to_have_text("mobilenet_v2 on pets · 91.2% (88.0 to 94.1%) · 2026-11-27")
    expect(page.locator("#expects")).to_contain_text("one of its classes: cats or dogs")
    expect(page.locator("#of-others")).to_be_visible()
    expect(page.get_by_text("8 pruned trials are not listed.")).to_be_visible()
    assert "eye" not in page.inner_text("body").lower()
    assert fits(page)
    page.get_by_label("Model").select_option("runs:/eyes")
    expect(page.locator("#of-eyes")).to_contain_text("It does not predict a person's gender")
    expect(page.locator("#expects")).to_have_text("One eye.")
    page.get_by_label("Model").select_option("runs:/gone")
    expect(page.locator("#title")).to_contain_text(LONG)
    assert fits(page)


def test_models_at_chance_level_are_shown_on_request(demo: str, page: sync_api.Page) -> None:
    page.goto(demo)
    options = page.locator("#model option")
    sync_api.expect(options).to_have_count(3)
    sync_api.expect(page.get_by_text("2 models no better than chance are hidden.")).to_be_visible()
    page.get_by_role("button", name="Show them").click()
    sync_api.expect(options).to_have_count(5)
    sync_api.expect(page.get_by_text("are hidden")).to_be_hidden()
    page.get_by_label("Model").select_option("runs:/bad1")
    sync_api.expect(page.locator("#title")).to_contain_text("51.0% (44.0 to 58.0%)")


def test_the_example_is_predicted_at_a_touch(demo: str, page: sync_api.Page) -> None:
    expect = sync_api.expect
    page.goto(demo)
    expect(page.get_by_alt_text("an example")).to_be_visible(timeout=SLOW)
    button = page.get_by_role("button", name="Try this example")
    box = button.bounding_box()
    assert box is not None
    if page.viewport_size == {"width": PHONE[0], "height": PHONE[1]}:
        assert box["height"] >= 44  # a finger's width
    button.click()
    expect(page.locator("#prediction")).to_have_text("dogs, 80.0% confidence", timeout=SLOW)
    expect(page.locator("#probability")).to_have_text("probability of dogs: 0.800")
    expect(page.locator("#grad-cam-error")).to_contain_text("needs grad-cam")
    assert page.locator("#input").evaluate("image => image.naturalWidth") == 288
    assert fits(page)
    # Without an example, and with a model that cannot be loaded.
    page.get_by_label("Model").select_option("runs:/gone")
    expect(page.get_by_role("alert")).to_contain_text("no run gone in the store", timeout=SLOW)
    expect(page.get_by_alt_text("an example")).to_be_hidden()
