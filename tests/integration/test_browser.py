"""What a user sees in a real Chromium: MLflow's page from the link that a run prints, the comparison, the demo.

With EYEGENDER_SCREENSHOTS=docs/images the screenshots in README and docs are taken again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eyegender.tracking.experiment_view import link
from tests import processes
from tests.composing import SMALL
from tests.digits import write_digits
from tests.integration.browser import MARKS, SLOW, mlflow_pages, opened_page, shoot
from tests.integration.conftest import TrackedRuns
from tests.integration.test_compare import compared
from tests.integration.test_serve import free_port, process

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = MARKS


@pytest.fixture
def page() -> Iterator[sync_api.Page]:
    with opened_page() as page:
        yield page


@pytest.fixture(scope="module")
def mlflow_page(tracked: TrackedRuns) -> Iterator[tuple[str, str]]:
    """Address of MLflow's page and id of the experiment."""
    experiment = str(tracked.client.get_experiment_by_name("eyegender").experiment_id)
    with mlflow_pages(tracked.uri) as address:
        yield address, experiment


def test_the_link_lists_runs_with_what_matters_and_two_are_compared(
    tracked: TrackedRuns, mlflow_page: tuple[str, str], page: sync_api.Page
) -> None:
    expect = sync_api.expect
    page.goto(link(*mlflow_page))
    for header in ("test/accuracy", "val_best/accuracy", "model.name", "model.lr"):
        expect(page.get_by_role("columnheader", name=header, exact=True).first).to_be_visible(timeout=SLOW)
    cells = page.get_by_role("gridcell")
    expect(cells.get_by_text("inception_v3", exact=True).first).to_be_visible(timeout=SLOW)
    expect(cells.get_by_text("mobilenet_v2", exact=True).first).to_be_visible()
    shoot(page, "mlflow-runs")
    # Compare two runs.
    for name in ("first", "inception"):
        row = page.locator(f'[row-id*="{tracked.id(name)}"]').first
        row.get_by_role("checkbox").first.click()
    page.get_by_role("button", name="Compare", exact=True).first.click()
    expect(page.get_by_text(re.compile("Comparing 2 Runs"))).to_be_visible(timeout=SLOW)


def test_the_accuracy_chart_draws(mlflow_page: tuple[str, str], page: sync_api.Page) -> None:
    page.goto(f"{link(*mlflow_page)}&compareRunsMode=CHART")
    page.get_by_placeholder("Search metric charts").fill("accuracy/val")
    sync_api.expect(page.locator(".js-plotly-plot svg.main-svg").first).to_be_visible(timeout=SLOW)
    shoot(page, "mlflow-charts")


def test_the_figures_and_the_model_of_a_run_open(
    tracked: TrackedRuns, mlflow_page: tuple[str, str], page: sync_api.Page
) -> None:
    address, experiment = mlflow_page
    run = f"{address}/#/experiments/{experiment}/runs/{tracked.id('first')}"
    page.goto(f"{run}/artifacts/figures/roc.png")
    image = page.locator("img[src^='blob:'], img[src*='roc.png']").first
    sync_api.expect(image).to_be_visible(timeout=SLOW)
    assert image.evaluate("image => image.naturalWidth") > 400
    shoot(page, "mlflow-figure")
    page.goto(run)
    sync_api.expect(page.get_by_text("Logged models", exact=False).first).to_be_visible(timeout=SLOW)
    model = tracked.client.get_run(tracked.id("first")).outputs.model_outputs[0].model_id
    page.goto(f"{address}/#/experiments/{experiment}/models/{model}")
    sync_api.expect(page.get_by_text("test/accuracy").first).to_be_visible(timeout=SLOW)
    page.goto(f"{address}/#/experiments/{experiment}/models/{model}/artifacts")
    sync_api.expect(page.get_by_text("MLmodel").first).to_be_visible(timeout=SLOW)


def test_the_comparison_page_needs_no_network(tracked: TrackedRuns, tmp_path: Path, page: sync_api.Page) -> None:
    compared(tracked, tmp_path / "page", "latency=true")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "page" / "comparison.html").as_uri())
    sync_api.expect(page.get_by_role("heading", name="Comparison of 2 runs")).to_be_visible()
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) >= 5
    assert all(width > 300 for width in widths)
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
    answer = re.compile("^(mobilenet_v2|inception_v3) (is better than|and) (mobilenet_v2|inception_v3) ")
    sync_api.expect(page.locator(".answer")).to_have_text(answer)
    shoot(page, "comparison", whole=True)
    # Nothing is cut off at the side of a laptop's screen or a phone's.
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 860})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width


def test_the_demo_page_answers(tracked: TrackedRuns, tmp_path: Path, page: sync_api.Page) -> None:
    eye = tmp_path / "eye.png"
    tracked.results["first"].trainer.datamodule.samples.open(3).save(eye)  # type: ignore[attr-defined]
    (tmp_path / "no.png").write_bytes(b"not an image")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    models = f"models=[runs:/{tracked.id('first')},runs:/{tracked.id('inception')}]"
    start = ["eyegender.demo", f"port={port}", models, tracked.where]
    with process(start, address, {}):
        page.goto(address)
        named = re.compile(r"^mobilenet_v2 on synthetic eyes · \d+\.\d% \(\d+\.\d to \d+\.\d%\) · \d{4}-\d\d-\d\d$")
        sync_api.expect(page.locator("#title")).to_have_text(named)
        sync_api.expect(page.locator("#expects")).to_contain_text(
            "one eye, cropped closely. Its answer is female or male."
        )
        # The example is the one that the model was logged with.
        page.get_by_role("button", name="Try this example").click(timeout=SLOW)
        sync_api.expect(page.locator("#prediction")).to_have_text(re.compile("confidence$"), timeout=SLOW)
        size = tracked.results["first"].trainer.datamodule.size  # type: ignore[attr-defined]
        assert page.locator("#example").evaluate("image => image.naturalWidth") == size
        page.get_by_label("Image of one eye").set_input_files(eye)
        prediction = page.locator("#prediction")
        sync_api.expect(prediction).to_have_text(re.compile(r"^(fe)?male, \d+\.\d% confidence$"), timeout=SLOW)
        sync_api.expect(page.locator("#busy")).to_be_hidden(timeout=SLOW)
        assert page.locator("#input").evaluate("image => image.naturalWidth") == 288
        shoot(page, "demo", whole=True)
        page.get_by_label("Model").select_option(index=1)
        sync_api.expect(page.locator("#busy")).to_be_hidden(timeout=SLOW)
        sync_api.expect(page.locator("#error")).to_be_hidden()
        page.get_by_label("Image of one eye").set_input_files(tmp_path / "no.png")
        sync_api.expect(page.get_by_role("alert")).to_contain_text("cannot be read", timeout=SLOW)


def test_the_demo_page_of_other_pictures(tmp_path: Path, page: sync_api.Page) -> None:
    pictures = write_digits(tmp_path / "pictures", per_class=6, names=("zero", "one", "two"))
    over = ("data=folder", f"data.root={pictures}", "data.split.by=random", *SMALL, "trainer.max_epochs=1")
    done = processes.run("eyegender.train", *over, f"tracking.root={tmp_path / 'mlruns'}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with process(["eyegender.demo", f"port={port}", f"tracking.root={tmp_path / 'mlruns'}"], address, {}):
        page.goto(address)
        assert "eye" not in page.inner_text("body").lower()
        page.get_by_label("Image", exact=True).set_input_files(pictures / "two" / "1.png")
        confidence = re.compile(r"^(zero|one|two), \d+\.\d% confidence$")
        sync_api.expect(page.locator("#prediction")).to_have_text(confidence, timeout=SLOW)
        items = page.locator("#more-classes li")
        sync_api.expect(items).to_have_count(3)
        probabilities = [float(text.rsplit(" ", 1)[1]) for text in items.all_inner_texts()]
        assert sum(probabilities) == pytest.approx(1, abs=0.01)
        assert probabilities == sorted(probabilities, reverse=True)
        sync_api.expect(page.locator("#two-classes")).to_be_hidden()
        assert "eye" not in page.inner_text("body").lower()
