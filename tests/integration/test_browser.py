"""What a user sees in a real Chromium: MLflow's page from the link that a run prints, the comparison, the demo.

With EYEGENDER_SCREENSHOTS=docs/images the screenshots in README and docs are taken again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from eyegender.tracking.experiment_view import link
from tests import processes
from tests.composing import SMALL
from tests.digits import write_digits
from tests.integration.conftest import TrackedRuns
from tests.integration.test_compare import compared
from tests.integration.test_serve import free_port, process

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

SLOW = 60_000  # milliseconds; nothing is timed, a busy machine may take long
SCREENSHOTS = Path(os.environ["EYEGENDER_SCREENSHOTS"]).absolute() if "EYEGENDER_SCREENSHOTS" in os.environ else None


@pytest.fixture
def page() -> Iterator[sync_api.Page]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1440, "height": 860})
        context.set_default_timeout(SLOW)
        # MLflow's page opens an assistant on a first visit; it would cover the columns.
        context.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        try:
            yield context.new_page()
        finally:
            browser.close()


def shoot(page: sync_api.Page, name: str, *, whole: bool = False) -> None:
    if SCREENSHOTS is not None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=whole)


@pytest.fixture(scope="module")
def mlflow_page(tracked: TrackedRuns) -> Iterator[tuple[str, str]]:
    """Address of MLflow's page and id of the experiment."""
    client = tracked.client
    experiment = str(client.get_experiment_by_name("eyegender").experiment_id)
    address = f"http://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    start = ["mlflow", "ui", "--backend-store-uri", tracked.uri, "--workers", "1"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes that the page does not need
    with process([*start, "--host", "127.0.0.1", "--port", port], f"{address}/health", environment):
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
    # Nothing is cut off at the side of a laptop's screen.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shoot(page, "comparison", whole=True)


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
        page.get_by_label("Image of one eye").set_input_files(eye)
        prediction = page.locator("#prediction")
        sync_api.expect(prediction).to_have_text(re.compile(r"^(fe)?male, \d+\.\d% confidence$"), timeout=SLOW)
        assert page.locator("#input").evaluate("image => image.naturalWidth") == 288
        shoot(page, "demo")
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
