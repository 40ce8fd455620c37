"""Ten classes from the folders to a promoted, served and exported model, and nothing of eyes on the way."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from eyegender.core.schema import TrackingSection, parse
from eyegender.inference.grad_cam import grad_cam
from eyegender.inference.load import LoadedModel, load_model
from eyegender.inference.onnx_export import TOLERANCE, export_onnx
from eyegender.registry.promotion import promote
from eyegender.tracking.run_artifacts import logged_model
from eyegender.tracking.tracking_store import TrackingStore, open_store
from eyegender.training.run import RunResult, train
from tests import processes
from tests.composing import SMALL, compose_config
from tests.digits import NAMES, write_digits

pytestmark = pytest.mark.integration

LABELS = tuple(sorted(NAMES))
# A train with a run's own words, such as "seventy-two eyes", is none of these.
OF_EYES = re.compile(r"\b(fe)?males?\b|\beyes?\b|gender\b(?<!eyegender)|\bpersons?\b(?<!by=person)", re.IGNORECASE)


@dataclass(frozen=True)
class Digits:
    folder: Path
    pictures: Path
    results: dict[str, RunResult]

    @property
    def where(self) -> str:
        return f"tracking.root={self.folder / 'mlruns'}"

    @property
    def tracking(self) -> TrackingSection:
        root = str(self.folder / "mlruns")
        return TrackingSection(experiment="eyegender", run_name=None, close_timeout=1, uri=None, root=root)

    @property
    def store(self) -> TrackingStore:
        return open_store(self.tracking)

    def id(self, name: str) -> str:
        return str(self.results[name].run_id)

    def model(self, name: str) -> LoadedModel:
        return load_model(f"runs:/{self.id(name)}", self.tracking)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Digits:
    folder = tmp_path_factory.mktemp("digits")
    pictures = write_digits(folder / "pictures")
    wanted = {
        # Every epoch of Lightning's loop, and everything that changes targets.
        "deep": ("model.mixup=0.2", "model.label_smoothing=0.1", "model.pos_weight=balanced", "model.ema=auto"),
        # Epochs over stored activations.
        "head": ("model.finetune_depth=0", "features=on", "features.views=1", "model.pos_weight={one: 2}"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EYEGENDER_CACHE", str(session_cache))
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        same = ("data=folder", f"data.root={pictures}", "data.color=gray", "data.split.seed=0", *SMALL)
        where = f"tracking.root={folder / 'mlruns'}"
        results = {
            name: train(parse(compose_config(*same, where, *overrides)), folder / name, list(overrides))
            for name, overrides in wanted.items()
        }
    return Digits(folder, pictures, results)


def test_a_run_has_the_metrics_of_ten_classes(digits: Digits) -> None:
    for name, result in digits.results.items():
        assert result.spec.classes == LABELS
        run = digits.store.run(digits.id(name))
        for metric in ("accuracy", "precision", "recall", "specificity", "f1", "auroc", "calibration_error", "loss"):
            assert 0 <= run.data.metrics[f"test/{metric}"] < 10, metric
        assert {f"test/recall/{label}" for label in LABELS} <= run.data.metrics.keys()
        assert not {"test/tp", "val/tn"} & run.data.metrics.keys()
        recalls = [run.data.metrics[f"test/recall/{label}"] for label in LABELS]
        assert run.data.metrics["test/recall"] == pytest.approx(np.mean(recalls), abs=1e-6)
        figures = {path.stem for path in (result.output_dir / "figures").iterdir()}
        assert figures == {"learning_curves", "confusion_matrix", "reliability", "most_wrong", "roc"}
        assert f"classes:\n  - {LABELS[0]}" in (result.output_dir / "config.yaml").read_text()


def test_a_checkpoint_and_the_logged_model_are_the_same(digits: Digits) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    expected = digits.model("head").probabilities(pixels)
    assert expected.shape == (3, 10)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)
    other = load_model(str(digits.folder / "head" / "checkpoints" / "best.ckpt"), digits.tracking)
    assert other.spec == digits.model("head").spec
    np.testing.assert_allclose(other.probabilities(pixels), expected, atol=1e-6)


def test_evaluated_again_and_predicted(digits: Digits, tmp_path: Path) -> None:
    model = f"model=runs:/{digits.id('head')}"
    done = processes.run("eyegender.evaluate", digits.where, model, "output=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    logged = digits.store.run(digits.id("head")).data.metrics
    for name in ("accuracy", "precision", "f1", "auroc", "calibration_error"):
        assert report["metrics"][name]["value"] == pytest.approx(logged[f"test/{name}"], abs=1e-5), name
    assert report["classes"]["nine"]["recall"] == pytest.approx(logged["test/recall/nine"], abs=1e-5)
    assert np.sum(report["confusion_matrix"]) == report["pictures"] == 60
    assert not OF_EYES.search(done.stdout)

    done = processes.run("eyegender.predict", digits.where, model, f"images={digits.pictures}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (output,) = tmp_path.glob("outputs/*/*-predict/predictions.csv")
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "probability", "label", "note", *(f"probability: {name}" for name in LABELS)]
    assert len(rows) == 300
    for row in rows:
        each = [float(row[f"probability: {name}"]) for name in LABELS]
        assert (row["label"], float(row["probability"])) == (LABELS[int(np.argmax(each))], max(each))
    assert not OF_EYES.search(done.stdout)


def test_compared_and_promoted(digits: Digits, tmp_path: Path) -> None:
    done = processes.run("eyegender.compare", digits.where, "pick=all", "latency=false", "output=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "## Classes of group A" in page
    assert "| seven | 6 |" in page
    assert "paper" not in page
    assert not OF_EYES.search(page.replace("eyegender", ""))
    assert {"roc.png", "confusion_matrices.png", "reliability.png", "disagreements.png"} <= {
        path.name for path in (tmp_path / "out" / "figures").iterdir()
    }

    accuracy = {name: digits.store.run(digits.id(name)).data.metrics["test/accuracy"] for name in digits.results}
    worse, better = sorted(accuracy, key=accuracy.__getitem__)
    promote(digits.store, digits.id(worse), name="digits", alias="champion", force=False)
    promotion = promote(digits.store, digits.id(better), name="digits", alias="champion", force=False)
    assert promotion.version == "2"
    assert "Predicts which of 10 classes an image belongs to" in promotion.card
    assert "## Test metrics by class" in promotion.card
    assert not OF_EYES.search(promotion.card.replace("eyegender", ""))
    registered = digits.store.client.get_registered_model("digits")
    assert registered.description.startswith("Predicts which of 10 classes")


def test_served_and_exported(digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = digits.model("head")
    picture = digits.pictures / "four" / "1.png"
    pixels = np.array(Image.open(picture))[None]
    expected = model.probabilities(pixels[None])
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with digits.store.as_global():
        logged = logged_model(digits.store, digits.id("head"))
        assert logged is not None
        served = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    np.testing.assert_allclose(served.predict(np.array([picture.read_bytes()], dtype=object)), expected, atol=1e-5)
    assert served.metadata.signature.outputs.inputs[0].shape == (-1, 10)
    assert served.metadata.metadata["classes"] == list(LABELS)

    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    assert export_onnx(model, tmp_path / "model.onnx") <= TOLERANCE
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"pixels": pixels[None]})
    np.testing.assert_allclose(probabilities, expected, atol=TOLERANCE)


def test_explained(digits: Digits) -> None:
    pytest.importorskip("pytorch_grad_cam")
    from eyegender.inference.demo_models import find_models
    from eyegender.inference.demo_page import predict_image

    model = digits.model("deep")
    image = Image.open(digits.pictures / "two" / "1.png")
    heat = grad_cam(model, np.array(image)[None, None])
    assert heat.shape == (1, 32, 32)
    shown = predict_image(model, image)
    assert shown["label"] == shown["classes"][0]["name"]
    assert not shown["eyes"]
    assert not any(each.eyes for each in find_models(digits.store, "eyegender", None).models)


def test_a_run_goes_on_where_it_stopped(digits: Digits, tmp_path: Path) -> None:
    """The checkpoint names the classes that were found, and the command that resumes it finds them again."""
    checkpoint = digits.folder / "deep" / "checkpoints" / "last.ckpt"
    copy = tmp_path / "deep" / "checkpoints"
    copy.mkdir(parents=True)
    for name in ("last.ckpt", "best.ckpt"):
        (copy / name).write_bytes((checkpoint.parent / name).read_bytes())
    same = ("data=folder", f"data.root={digits.pictures}", "data.color=gray", "data.split.seed=0", *SMALL)
    own = ("model.mixup=0.2", "model.label_smoothing=0.1", "model.pos_weight=balanced", "model.ema=auto")
    more = ("trainer.max_epochs=3", f"ckpt_path={copy / 'last.ckpt'}", "run_test=false", digits.where)
    result = train(parse(compose_config(*same, *own, *more)), tmp_path / "on")
    assert [row["epoch"] for row in result.history] == [1, 2, 3]


def test_audited_and_evaluated_as_folders(digits: Digits, tmp_path: Path) -> None:
    few = write_digits(tmp_path / "few", per_class=4)
    same = ("data=folder", f"data.root={few}", "output=out")
    done = processes.run("eyegender.audit", *same, "data.split.by=random", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "images in several classes" in done.stdout
    assert not OF_EYES.search(done.stdout)
    report = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert report["counts"] == dict.fromkeys(LABELS, 4)

    model = f"model={digits.folder / 'head' / 'checkpoints' / 'best.ckpt'}"
    done = processes.run("eyegender.evaluate", model, *same[:2], "output=all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "all" / "metrics.json").read_text())["pictures"] == 40
    (few / "nine").rename(tmp_path / "nine")
    done = processes.run("eyegender.evaluate", model, *same[:2], "output=less", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the data must have the model's classes, eight, five, four, nine, one, seven, six, three, two and zero" in (
        done.stderr
    )


def test_searched(digits: Digits, tmp_path: Path) -> None:
    """Two depths with three classes; the winner is tested."""
    over = (
        "-m", "+sweeps=finetune", "model.finetune_depth=choice(0,1)", "hydra.sweeper.n_trials=2",
        "hydra.sweeper.study_name=ten", "monitor=val/f1", "data=folder", f"data.root={digits.pictures}",
        "data.classes=[zero,one,two]", "data.subset={zero: 6, one: 6, two: 6}", "data.split.by=random", *SMALL,
        "trainer.max_epochs=1",
    )  # fmt: skip
    done = processes.run("eyegender.train", *over, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    store = open_store(TrackingSection(experiment="eyegender", run_name=None, close_timeout=1, uri=None, root="mlruns"))
    runs = store.search([store.experiment_id("eyegender")], "tags.`study.name` = 'ten'")
    refused = processes.run("eyegender.train", *over, "monitor=val/tp", "hydra.sweeper.study_name=no", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("eyegender: monitor must be a metric of 3 classes, got val/tp")
    winners = [run for run in runs if run.data.tags.get("winner") or "test/accuracy" in run.data.metrics]
    assert winners
    assert "test/recall/two" in winners[0].data.metrics


def test_two_other_classes_have_one_logit_and_their_own_names(tmp_path: Path) -> None:
    pictures = write_digits(tmp_path / "pictures", names=("zeros & co", "ones"))
    over = ("data=folder", f"data.root={pictures}", *SMALL, "trainer.max_epochs=1", "model.pos_weight=balanced")
    done = processes.run("eyegender.train", *over, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "zeros & co = positive" in done.stdout
    assert not OF_EYES.search(done.stdout)
    model = load_model(str(tmp_path / "run"), TrackingSection(
        experiment="eyegender", run_name=None, close_timeout=1, uri=None, root="mlruns"
    ))  # fmt: skip
    assert model.spec.classes == ("ones", "zeros & co")
    assert model.probabilities(np.zeros((2, 3, 32, 32), np.uint8)).shape == (2,)
    done = processes.run("eyegender.predict", "model=run", f"images={pictures}", "output=rows.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rows.csv").read_text().splitlines()[0] == "path,probability,label,note"
    assert "(probability of zeros & co)" in done.stdout
    done = processes.run("eyegender.compare", "latency=false", "output=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert page.startswith("# One run\n")
    assert "The positive class is zeros" in page
    assert not OF_EYES.search(page.replace("eyegender", ""))
