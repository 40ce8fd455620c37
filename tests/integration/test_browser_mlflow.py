"""What a person reads on MLflow's pages of a run, a study, a comparison and a registered model, at desktop width."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Run

from eyegender.registry.promotion import promote
from eyegender.tracking.tracking_store import open_store
from tests import processes
from tests.composing import TINY
from tests.integration.browser import MARKS, SLOW, mlflow_pages, opened_page, shoot
from tests.integration.conftest import TrackedRuns, train_runs
from tests.integration.test_compare import compared
from tests.integration.test_use import tracking

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = MARKS
expect = sync_api.expect
TRAINING = "workflowType=machine_learning"


@pytest.fixture
def page() -> Iterator[sync_api.Page]:
    with opened_page(height=1000) as page:
        yield page


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> TrackedRuns:
    """In a store of their own, because other tests compare all runs of theirs, and here a study is added."""
    return train_runs(tmp_path_factory.mktemp("tracked"), session_cache)


@pytest.fixture(scope="module")
def study(tracked: TrackedRuns, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of a study in the store of the other runs, whose runs were compared, and one promoted."""
    folder = tmp_path_factory.mktemp("study")
    sweep = ("+sweeps=finetune", "hydra.sweeper.n_trials=2", f"hydra.sweeper.storage=sqlite:///{folder}/o.db")
    done = processes.run("eyegender.train", "-m", *TINY, *sweep, "trainer.max_epochs=1", tracked.where, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    compared(tracked, folder / "page")
    promote(open_store(tracking(tracked)), tracked.id("inception"), name="eyes", alias="champion", force=True)
    experiment = tracked.client.get_experiment_by_name("eyegender").experiment_id
    [run] = tracked.client.search_runs([experiment], "tags.study = 'parent'")
    return run


@pytest.fixture(scope="module")
def address(tracked: TrackedRuns, study: Run) -> Iterator[str]:
    with mlflow_pages(tracked.uri) as found:
        yield found


def runs_address(address: str, study: Run) -> str:
    return f"{address}/#/experiments/{study.info.experiment_id}/runs"


def wait_for_charts(page: sync_api.Page, last: str) -> list[str]:
    """The titles of the groups of charts from top to bottom, after the first chart and the last title have come."""
    expect(page.locator(".js-plotly-plot svg.main-svg").first).to_be_visible(timeout=SLOW)
    expect(page.locator("body")).to_contain_text(re.compile(rf"{last}\s*\(\d+\)"), timeout=SLOW)
    return re.findall(r"^([\w/]+)\s\(\d+\)$", page.inner_text("body"), re.MULTILINE)


def test_a_runs_page_says_what_it_is_and_what_came_out(
    tracked: TrackedRuns, study: Run, address: str, page: sync_api.Page
) -> None:
    run = tracked.client.get_run(tracked.id("first"))
    page.goto(f"{runs_address(address, study)}/{run.info.run_id}?{TRAINING}")
    result = page.get_by_text(re.compile(r"^Test accuracy \d+\.\d% \(95% interval \d+\.\d to \d+\.\d%\) on \d+ images"))
    expect(result.first).to_be_visible(timeout=SLOW)
    for text in ("confusion matrix", "learning curves", "roc"):
        expect(page.get_by_role("link", name=text, exact=True)).to_be_visible()
    for label, value in (("mlflow.user", "Created by"), ("mlflow.source.name", "Source")):
        assert run.data.tags[label]
        expect(page.get_by_text(value, exact=True).first).to_be_visible()
        expect(page.get_by_text(run.data.tags[label]).first).to_be_visible()
    shoot(page, "mlflow-run")
    page.get_by_text("Show more", exact=True).first.click()
    with page.expect_popup() as opened:  # links of a description open in another tab
        page.get_by_role("link", name="roc", exact=True).click()
    image = opened.value.locator("img[src^='blob:'], img[src*='roc.png']").first
    expect(image).to_be_visible(timeout=SLOW)


def test_a_runs_charts_open_on_accuracy_and_loss(
    tracked: TrackedRuns, study: Run, address: str, page: sync_api.Page
) -> None:
    page.goto(f"{runs_address(address, study)}/{tracked.id('first')}/model-metrics?{TRAINING}")
    assert wait_for_charts(page, "val_best") == ["accuracy", "loss", "test", "train", "val", "val_best"]
    for name in ("accuracy", "loss"):  # without scrolling, each with the curves of training and validation
        expect(page.get_by_text(name, exact=True).first).to_be_in_viewport()
    for name in ("train", "val"):
        expect(page.get_by_text(name, exact=True).first).to_be_in_viewport()
    shoot(page, "mlflow-run-charts")


def test_runs_are_compared_by_their_curves_and_their_accuracy(
    tracked: TrackedRuns, study: Run, address: str, page: sync_api.Page
) -> None:
    view = f"{TRAINING}&viewStateShareKey=eyegender&compareRunsMode=CHART"
    page.goto(f"{runs_address(address, study)}?{view}")
    assert wait_for_charts(page, "loss")[:2] == ["accuracy", "loss"]
    shoot(page, "mlflow-compared-charts")
    both = ",".join(f'"{tracked.id(name)}"' for name in ("first", "inception"))
    page.goto(f'{address}/#/compare-runs?runs=[{both}]&experiments=["{study.info.experiment_id}"]')
    expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("accuracy/val", exact=True).first).to_be_visible(timeout=SLOW)
    shoot(page, "mlflow-compare")


def test_a_studys_page_lists_its_trials_by_what_differs(study: Run, address: str, page: sync_api.Page) -> None:
    page.goto(f"{runs_address(address, study)}/{study.info.run_id}?{TRAINING}")
    tested = page.get_by_text(re.compile(r"was tested once: accuracy \d+\.\d% \(95% interval .* images of \d+ persons"))
    expect(tested.first).to_be_visible(timeout=SLOW)
    trial = page.get_by_role("link", name=re.compile(r"^trial 1 · depth \d+ · lr [\d.e-]+$")).first
    expect(trial).to_be_visible()
    for parameter in ("model.finetune_depth", "model.lr", "trainer.max_epochs"):
        assert parameter in study.data.params
        expect(page.get_by_text(parameter, exact=True).first).to_be_attached()
    shoot(page, "mlflow-study")
    trial.click()
    expect(page.get_by_text(re.compile("^Trial 1 of the study finetune")).first).to_be_attached(timeout=SLOW)


def test_a_study_is_among_the_training_runs_in_both_views(study: Run, address: str, page: sync_api.Page) -> None:
    page.goto(f"{runs_address(address, study)}?{TRAINING}&viewStateShareKey=eyegender")
    expect(page.get_by_role("gridcell").get_by_text("study finetune").first).to_be_visible(timeout=SLOW)
    # MLflow's view for GenAI lists every run without a model as an evaluation run.
    page.goto(f"{address}/#/experiments/{study.info.experiment_id}/evaluation-runs?workflowType=genai")
    expect(page.get_by_text(re.compile(r"comparison of \d runs")).first).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("study finetune")).to_have_count(0)


def test_the_registry_shows_the_model_card_and_the_name_of_the_run(
    tracked: TrackedRuns, study: Run, address: str, page: sync_api.Page
) -> None:
    page.goto(f"{address}/#/models/eyes?{TRAINING}")
    expect(page.get_by_text("champion").first).to_be_visible(timeout=SLOW)
    page.goto(f"{address}/#/models/eyes/versions/1?{TRAINING}")
    expect(page.get_by_text("What it must not be used for").first).to_be_visible(timeout=SLOW)
    shoot(page, "mlflow-registry")
    name = tracked.client.get_run(tracked.id("inception")).info.run_name
    assert name.startswith("inception_v3")
    page.goto(f"{address}/#/experiments/{study.info.experiment_id}/models?{TRAINING}")
    expect(page.get_by_text(name.replace(".", "_")).first).to_be_visible(timeout=SLOW)


def test_the_system_metrics_are_on_their_page(tmp_path: Path, page: sync_api.Page) -> None:
    root = f"tracking.root={tmp_path / 'mlruns'}"
    done = processes.run("eyegender.train", *TINY, root, "tracking.system_interval=0.2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    uri = f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}"
    run_id = re.findall(r"^Run +(\w+)", done.stdout, re.MULTILINE)[0]
    with mlflow_pages(uri) as address:
        page.goto(f"{address}/#/experiments/1/runs/{run_id}/system-metrics?{TRAINING}")
        expect(page.get_by_text("cpu_utilization_percentage").first).to_be_visible(timeout=SLOW)
        expect(page.locator(".js-plotly-plot svg.main-svg").first).to_be_visible(timeout=SLOW)
