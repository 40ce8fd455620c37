"""A shared result: opened elsewhere, without its store, and without anything of this machine in it."""

from __future__ import annotations

import getpass
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

import eyegender
from tests import processes
from tests.composing import SMALL
from tests.digits import write_digits
from tests.integration.browser import MARKS, SCREENSHOTS, opened_page, shoot
from tests.integration.conftest import LONGER
from tests.unit.docs.pages import ROOT

pytestmark = pytest.mark.integration
FILES = {"report.html", "model_card.md", "network", "model.onnx"}
SYNTHETIC = ("data.n=60", *SMALL, "trainer.max_epochs=2")


def trained(folder: Path, *overrides: str) -> str:
    """The id of a run in `mlruns/` of the folder."""
    done = processes.run("eyegender.train", *overrides, f"tracking.root={folder}/mlruns", "output=run", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads((folder / "run" / "run.json").read_text())["run_id"])


def exported(folder: Path, *overrides: str) -> str:
    done = processes.run("eyegender.export_report", *overrides, f"tracking.root={folder}/mlruns", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(folder: Path, *overrides: str) -> str:
    done = processes.run("eyegender.export_report", *overrides, f"tracking.root={folder}/mlruns", cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def assert_of_no_machine(shared: Path, *folders: Path) -> None:
    """Nothing in the files names a folder of this machine."""
    places = {str(folder) for folder in (*folders, ROOT, Path.home())} - {"/"}
    for path in (path for path in shared.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found = [place for place in places if place.encode() in content]
        assert not found, (path, found)


@dataclass(frozen=True)
class Shared:
    """A shared result whose store is gone.

    Args:
        folder: the result, in another place than where it was written.
        written: the folder in which it was written, with the run and its store.
        images: some images.
        before: what the model predicted for them while the store was there.
    """

    folder: Path
    written: Path
    images: list[Any]
    before: Any


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    work, elsewhere = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("elsewhere")
    longer = () if SCREENSHOTS is None else (*LONGER, "tracking.run_name=mobilenet_v2 on synthetic eyes")
    run = trained(work, *SYNTHETIC, *longer)
    said = exported(work, f"run={run}", "output=shared")
    assert "Without" not in said
    images = list(np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8))
    before = eyegender.load_model(f"runs:/{run}", {"tracking.root": str(work / "mlruns")}).predict(images)
    shutil.move(work / "shared", elsewhere / "result")
    shutil.rmtree(work)
    return Shared(elsewhere / "result", work, images, before)


def test_a_report_is_the_same_without_its_store(shared: Shared) -> None:
    assert {path.name for path in shared.folder.iterdir()} == FILES
    model = eyegender.load_model(shared.folder)
    after = model.predict(shared.images)
    np.testing.assert_array_equal(after["probability"], shared.before["probability"])
    onnxruntime = pytest.importorskip("onnxruntime")
    size = model.spec.size
    pixels = np.random.default_rng(1).integers(0, 256, (3, 3, size, size), dtype=np.uint8)
    session = onnxruntime.InferenceSession(shared.folder / "model.onnx", providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"pixels": pixels})
    np.testing.assert_allclose(found, model.probabilities(pixels), atol=1e-4)
    assert_of_no_machine(shared.folder, shared.written)
    page = (shared.folder / "report.html").read_text()
    assert "Test accuracy " in page
    assert "Trained on synthetic eyes" in page
    assert getpass.getuser() not in (shared.folder / "model_card.md").read_text().replace("data.root", "")


def test_a_run_on_a_folder_shares_no_path_and_images_only_if_asked(tmp_path: Path) -> None:
    pictures = write_digits(tmp_path / "private-pictures", per_class=6, names=("zero", "one", "two"))
    over = ("data=folder", f"data.root={pictures}", "data.split.by=random", *SMALL, "trainer.max_epochs=1")
    run = trained(tmp_path, *over, f"tracking.run_name='on {pictures}'")
    exported(tmp_path, f"run={run}", "output=shared")
    assert_of_no_machine(tmp_path / "shared", tmp_path)
    page = (tmp_path / "shared" / "report.html").read_text()
    assert 'id="most_wrong"' not in page
    assert 'id="confusion_matrix"' in page
    # Nothing is replaced, unless that is asked for.
    assert "output must be a folder without report.html, got shared" in refused(tmp_path, f"run={run}", "output=shared")
    said = exported(tmp_path, f"run={run}", "output=shared", "images=true", "overwrite=true")
    assert "Images   the report shows images of the data" in said
    assert 'id="most_wrong"' in (tmp_path / "shared" / "report.html").read_text()


def test_what_is_missing_is_said_and_what_is_no_run_is_refused(tmp_path: Path) -> None:
    run = trained(tmp_path, *SYNTHETIC, "run_test=false")
    said = exported(tmp_path, f"run={run}", "output=untested")
    assert "Without  no model card: the run was not tested, train it with run_test=true" in said
    assert {path.name for path in (tmp_path / "untested").iterdir()} == FILES - {"model_card.md"}
    assert "Validation accuracy " in (tmp_path / "untested" / "report.html").read_text()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    [model] = client.search_logged_models([client.get_run(run).info.experiment_id])
    client.delete_logged_model(model.model_id)
    said = exported(tmp_path, f"run={run}", "output=bare")
    assert "Without  no model: the run logged none" in said
    assert {path.name for path in (tmp_path / "bare").iterdir()} == {"report.html"}
    other = client.create_run(client.get_run(run).info.experiment_id).info.run_id
    assert f"run {other} trained no network; give the id of a training run" in refused(tmp_path, f"run={other}")
    assert "eyegender: no run nowhere in " in refused(tmp_path, "run=nowhere")
    assert "must lie outside of training runs" in refused(tmp_path, f"run={run}", "output=run/shared")
    assert not list(tmp_path.glob("outputs/*/*"))


class TestInABrowser:
    pytestmark = MARKS

    @pytest.mark.parametrize("width", [1440, 390])
    def test_the_report_opens_from_its_file(self, width: int, shared: Shared) -> None:
        with opened_page(width) as page:
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto((shared.folder / "report.html").as_uri())
            assert "Test accuracy" in page.inner_text(".answer")
            widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
            assert len(widths) == 4
            assert all(width > 200 for width in widths)
            assert not [url for url in asked if not url.startswith(("file:", "data:"))]
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            headings = page.locator("h2").all_inner_texts()
            assert headings[0] == "What it must not be used for"
            assert headings[-2:] == ["Use", "Provenance"]
            if width == 1440:
                shoot(page, "report")
