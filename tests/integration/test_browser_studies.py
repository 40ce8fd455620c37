"""What a person sees of studies: a report on a desktop, a phone and paper, two side by side, and optuna-dashboard."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hydra_plugins.optuna_study import study_status
from tests import processes
from tests.composing import TINY
from tests.conftest import WEIGHTS
from tests.integration.browser import CHROMIUM, MARKS, SCREENSHOTS, SLOW, opened_page, shoot
from tests.integration.test_serve import free_port, process
from tests.stores import give_store
from tests.studies import Trials

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = MARKS
expect = sync_api.expect
STORAGE = "sqlite:///mlruns/optuna.db"
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two studies that differ in their seed."""
    folder = tmp_path_factory.mktemp("swept")
    give_store(folder / "mlruns")
    size = (*TINY, "trainer.max_epochs=4", "hydra.sweeper.n_trials=6")
    if SCREENSHOTS is not None and WEIGHTS in os.environ:  # a picture shows trials that have learned something
        (folder / "mobilenet_v2.pth").symlink_to(Path(os.environ[WEIGHTS]).absolute())
        size = ("data.n=600", "data.size=48", "model.weights=mobilenet_v2.pth", "trainer=cpu", "trainer.progress=none")
        size += ("trainer.max_epochs=6", "hydra.sweeper.n_trials=10", "hydra.sweeper.heartbeat=60")
    for seed in (0, 1):
        over = (f"hydra.sweeper.study_name=finetune-seed{seed}", f"seed={seed}")
        done = processes.run("eyegender.train", "-m", *size, "+sweeps=finetune", *over, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"multirun/finetune-seed{seed}/report/report.html" in done.stdout
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with trials of all states, which `eyegender study` wrote."""
    folder = tmp_path_factory.mktemp("large")
    trials = Trials(folder, metrics=["val/accuracy"], name="finetune").add_all(48)
    done = processes.run("eyegender.study", "name=finetune", f"storage={trials.url}", "output=out", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out" / "report" / "report.html"


def opened(page: sync_api.Page, path: Path) -> list[str]:
    """Open a page without a network and see all of it; returns what it complained about, and what it asked for."""
    complaints: list[str] = []
    page.context.set_offline(True)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    figures = page.locator("figure.chart")
    for i in range(figures.count()):
        figures.nth(i).scroll_into_view_if_needed()
        expect(figures.nth(i).locator("svg.main-svg").first).to_be_visible(timeout=SLOW)
    page.evaluate("scrollTo(0, 0)")
    return complaints


@pytest.mark.parametrize("size", SIZES)
def test_a_report_opens_from_its_file_without_a_network(large: Path, size: str) -> None:
    width, height = SIZES[size]
    with opened_page(width, height) as page:
        assert opened(page, large) == []
        headings = page.get_by_role("heading", level=2).all_inner_texts()
        assert {"Best trials", "Learning curves", "Which parameters matter", "Failures"} < set(headings)
        boxes = page.locator("figure.chart .plot svg.main-svg:first-child").all()
        assert len(boxes) == 8
        for box in (found.bounding_box() for found in boxes):
            assert box is not None
            assert box["width"] > 300
            assert box["height"] > 250
        assert page.locator("figure.chart .plot .scatterlayer path.point").count() > 100
        # Nothing is cut off at the side: a wide table scrolls in its own box.
        assert page.evaluate("document.documentElement.scrollWidth") == width
        expect(page.locator("figure.chart .still").first).to_be_hidden()
        expect(page.locator(".legendtext", has_text=re.compile(r"^pruned \(\d+\)$")).first).to_be_visible()
        expect(page.locator(".legendtext", has_text=re.compile(r"^paused \(\d+\)$")).first).to_be_visible()
        page.get_by_text("All 48 trials").click()
        expect(page.get_by_role("cell", name="paused").first).to_be_visible()


def test_a_report_is_complete_without_javascript(large: Path) -> None:
    with opened_page() as page:
        context = page.context.browser.new_context(java_script_enabled=False, offline=True)  # type: ignore[union-attr]
        still = context.new_page()
        still.goto(large.as_uri())
        images = still.locator("figure.chart img.still")
        assert images.count() == 8
        for i in range(8):
            expect(images.nth(i)).to_be_visible()
            box = images.nth(i).bounding_box()
            assert box is not None
            assert box["width"] > 400
        expect(still.locator(".plot").first).to_be_hidden()
        expect(still.get_by_role("button", name="Copy")).to_have_count(0)


def test_a_report_is_printed_with_its_pictures(large: Path, tmp_path: Path) -> None:
    with opened_page() as page:
        opened(page, large)
        page.emulate_media(media="print")
        expect(page.locator("figure.chart .still").first).to_be_visible()
        expect(page.locator("figure.chart .plot").first).to_be_hidden()
        expect(page.get_by_role("heading", name="Learning curves")).to_be_visible()
        pdf = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    # By the command that a user would give.
    assert CHROMIUM is not None
    printed = tmp_path / "report.pdf"
    command = [CHROMIUM, "--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}"]
    subprocess.run(
        [*command, f"--print-to-pdf={printed}", large.as_uri()], check=True, timeout=300, capture_output=True
    )
    assert len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) >= 3


def test_the_report_of_a_sweep_links_its_runs_and_trains_the_best_again(swept: Path) -> None:
    status = study_status(f"sqlite:///{swept}/mlruns/optuna.db", "finetune-seed0")
    winner = status.winner
    assert winner is not None
    assert re.fullmatch(r"http://127\.0\.0\.1:5000/#/experiments/\d+/runs/\w{32}", winner.user_attrs["mlflow_run"])
    with opened_page() as page:
        assert opened(page, swept / "multirun/finetune-seed0/report/report.html") == []
        link = page.get_by_role("link", name=str(winner.number), exact=True).first
        assert link.get_attribute("href") == winner.user_attrs["mlflow_run"]
        assert page.get_by_role("link", name="In MLflow").get_attribute("href") == status.user_attrs["mlflow_run"]
        command = page.locator(".command code").inner_text()
        assert command.startswith("eyegender train ")
        assert f"model.lr={winner.params['model.lr']}" in command
        expect(page.get_by_text(re.compile("^Pruning and pausing saved|^No trial was pruned"))).to_be_visible()
        shoot(page, "study-report")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name=re.compile("Copied|Selected"))).to_be_visible()


@pytest.mark.parametrize("size", SIZES)
def test_two_studies_side_by_side(swept: Path, tmp_path: Path, size: str) -> None:
    output = tmp_path / "page"
    done = processes.run("eyegender.compare", "study=[finetune-seed0,finetune-seed1]", f"output={output}", cwd=swept)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^Run +\w{32} contains the same page$", done.stdout, re.MULTILINE)
    width, height = SIZES[size]
    with opened_page(width, height) as page:
        assert opened(page, output / "comparison.html") == []
        expect(page.get_by_role("heading", name="Comparison of 2 studies")).to_be_visible()
        # They differ only in their seed: one line with a band.
        expect(page.locator(".legendtext", has_text="finetune (2 seeds)").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        if size == "desktop":
            shoot(page, "studies")


def test_optuna_dashboard_shows_names_links_and_a_note(swept: Path) -> None:
    script = Path(sys.executable).with_name("optuna-dashboard")
    if not script.is_file():
        pytest.skip("no optuna-dashboard in this environment")
    address = f"http://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    command = [str(script), f"sqlite:///{swept}/mlruns/optuna.db", "--host", "127.0.0.1", "--port", port]
    with process(command, address, {}), opened_page(1440, 1000) as page:
        page.goto(f"{address}/dashboard")
        page.get_by_text("finetune-seed0").first.click()
        expect(page.locator("body")).to_contain_text("val/accuracy", timeout=SLOW)
        page.goto(page.url.rstrip("/") + "/note")
        status = study_status(f"sqlite:///{swept}/mlruns/optuna.db", "finetune-seed0")
        winner = status.winner
        assert winner is not None
        expect(page.get_by_text("eyegender train ").first).to_be_visible(timeout=SLOW)
        link = page.get_by_role("link", name=f"trial {winner.number}", exact=True).first
        assert link.get_attribute("href") == winner.user_attrs["mlflow_run"]
        page.goto(page.url.replace("/note", f"/trials?numbers={winner.storage_number}"))
        run = page.get_by_role("link", name="Run in MLflow").first
        expect(run).to_be_visible(timeout=SLOW)
        assert run.get_attribute("href") == winner.user_attrs["mlflow_run"]
        expect(page.locator("body")).to_contain_text(f"mlflow_run {winner.user_attrs['mlflow_run']}")
