"""Evaluate, predict, promote and export, with real runs in a real store."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.core.schema import TrackingSection
from eyegender.inference.load import LoadedModel, load_model
from eyegender.inference.onnx_export import SPEC_KEY, TOLERANCE, export_onnx
from eyegender.registry.promotion import promote
from eyegender.tracking.tracking_store import TrackingStore, open_store
from tests import processes
from tests.integration.conftest import TrackedRuns

pytestmark = pytest.mark.integration


def tracking(tracked: TrackedRuns) -> TrackingSection:
    root = str(tracked.folder / "mlruns")
    return TrackingSection(experiment="eyegender", run_name=None, close_timeout=1, uri=None, root=root)


@pytest.fixture
def store(tracked: TrackedRuns) -> TrackingStore:
    return open_store(tracking(tracked))


@pytest.fixture(scope="module")
def model(tracked: TrackedRuns) -> LoadedModel:
    return load_model(f"runs:/{tracked.id('first')}", tracking(tracked))


def run(command: str, place: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return processes.run(f"eyegender.{command}", *overrides, cwd=place)


def eyes(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:03d}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 44), dtype=np.uint8)).save(path)
    return paths


def test_a_run_a_checkpoint_and_a_folder_are_the_same_model(tracked: TrackedRuns, model: LoadedModel) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    expected = model.probabilities(pixels)
    for reference in (str(tracked.checkpoint("first")), str(tracked.folder / "first")):
        other = load_model(reference, tracking(tracked))
        assert other.spec == model.spec
        np.testing.assert_allclose(other.probabilities(pixels), expected, atol=1e-6)


def test_evaluating_a_run_repeats_its_own_test(tracked: TrackedRuns, tmp_path: Path) -> None:
    done = run("evaluate", tmp_path, tracked.where, f"model=runs:/{tracked.id('first')}", "output=out")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    logged = tracked.client.get_run(tracked.id("first")).data.metrics
    for name in ("accuracy", "precision", "recall", "f1"):
        assert report["metrics"][name]["value"] == pytest.approx(logged[f"test/{name}"], abs=1e-5), name
        assert report["metrics"][name]["low"] <= report["metrics"][name]["value"] <= report["metrics"][name]["high"]
    assert sum(report["counts"].values()) == report["pictures"]
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    table = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(table["data"]) == report["pictures"]
    stored = json.loads((tracked.folder / "first" / "test_predictions.json").read_text())
    assert {row[0]: row[-1] for row in table["data"]} == pytest.approx(
        {row[0]: row[-1] for row in stored["data"]}, abs=1e-4
    )


def test_evaluating_a_folder_explains_and_warns(tracked: TrackedRuns, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_grad_cam")
    eyes(tmp_path / "eyes" / "f", 4)
    eyes(tmp_path / "eyes" / "m", 3)
    (tmp_path / "eyes" / "m" / "bad.jpg").write_bytes(b"not an image")
    arguments = ("data=folder", "data.root=eyes", "data.classes=[f,m]", "output=out", "grad_cam=2")
    model = f"model={tracked.checkpoint('first')}"
    refused = run("evaluate", tmp_path, model, *arguments)
    assert refused.returncode == 2
    assert "got f and m; give other data or another model, or map the class names" in refused.stderr
    arguments = (*arguments, "classes={f: female, m: male}")
    refused = run("evaluate", tmp_path, model, *arguments)
    assert refused.returncode == 2
    assert "every image must be readable, got 1 of 8" in refused.stderr
    assert not (tmp_path / "out").exists()
    done = run("evaluate", tmp_path, model, *arguments, "data.on_bad=skip")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (report["pictures"], report["part"], report["positive"]) == (7, "all", "male")
    assert report["skipped"] == {"m/bad.jpg": "not a JPEG, PNG, BMP or WebP image"}
    assert "3 images are in both classes (f/000.png = m/000.png first)" in report["warnings"][0]
    figures = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {"confusion_matrix", "reliability", "most_wrong", "roc", "grad_cam"}


def test_predicting_a_folder(tracked: TrackedRuns, model: LoadedModel, tmp_path: Path) -> None:
    paths = eyes(tmp_path / "images" / "below", 300)  # more than one batch
    (tmp_path / "images" / "bad.jpg").write_bytes(b"not an image")
    (tmp_path / "images" / "notes.txt").write_text("no image suffix")
    reference = f"model=runs:/{tracked.id('first')}"
    done = run("predict", tmp_path, tracked.where, reference, "images=images", "min_confidence=0.5")
    assert done.returncode == 0, done.stderr
    assert "301 rows:" in done.stdout
    assert "images/bad.jpg: unreadable: not a JPEG" in done.stdout
    (output,) = tmp_path.glob("outputs/*/*-predict/predictions.csv")
    assert f"Output   {output.relative_to(tmp_path)}" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"images", "outputs"}
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 301
    assert rows[0] == {
        "path": "images/bad.jpg",
        "eye": "",
        "probability": "",
        "label": "",
        "note": "unreadable: not a JPEG, PNG, BMP or WebP image",
    }
    assert [row["path"] for row in rows[1:]] == [str(path.relative_to(tmp_path)) for path in paths]
    assert {row["label"] for row in rows[1:]} <= {"female", "male"}
    assert all((float(row["probability"]) > 0.5) == (row["label"] == "male") for row in rows[1:])


def test_predicting_as_json_lines_with_abstentions(tracked: TrackedRuns, tmp_path: Path) -> None:
    paths = eyes(tmp_path, 2)
    done = run(
        "predict", tmp_path, f"model={tracked.checkpoint('first')}", "images=[000.png,001.png]", "min_confidence=1",
        "output=out/answers.jsonl",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == [path.name for path in paths]
    assert all((row["label"], row["note"]) == ("", "abstained") for row in rows)


def test_predicting_faces_with_given_eyes(tracked: TrackedRuns, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 100, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.new("L", (50, 50)).save(tmp_path / "b.png")
    (tmp_path / "eyes.csv").write_text("path,left_x,left_y,right_x,right_y\na.png,30,50,70,52\n")
    model = f"model={tracked.checkpoint('first')}"
    done = run(
        "predict", tmp_path, model, "images=[a.png,b.png]", "faces=true", "eyes=eyes.csv", "output=predictions.csv"
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["eye"], row["note"]) for row in rows] == [
        ("a.png", "left", ""),
        ("a.png", "right", ""),
        ("b.png", "", "no eyes"),
    ]


def test_a_run_becomes_champion_with_a_card(tracked: TrackedRuns, store: TrackingStore) -> None:
    done = promote(store, tracked.id("first"), name="cards", alias="champion", force=False)
    assert (done.version, done.sentences) == ("1", ())
    version = tracked.client.get_model_version_by_alias("cards", "champion")
    assert version.run_id == tracked.id("first")
    for text in (
        "must not be used for",
        "does not predict a person's gender",
        "## Where it fails",
        "synthetic eyes",
        "| AUROC |",
    ):
        assert text in done.card
    assert version.description == done.card
    assert "model_card.md" in {item.path for item in tracked.client.list_artifacts(tracked.id("first"))}
    again = promote(store, tracked.id("first"), name="cards", alias="champion", force=False)
    assert again.version == "1"
    assert len(tracked.client.search_model_versions("name = 'cards'")) == 1
    loaded = load_model("models:/cards@champion", tracking(tracked))
    assert loaded.run_id == tracked.id("first")
    model_id = tracked.client.get_run(version.run_id).outputs.model_outputs[0].model_id
    page = tracked.client.get_logged_model(model_id)  # as MLflow's page of the model shows it
    assert {"name": "cards", "version": "1"} in json.loads(page.tags["mlflow.modelVersions"])


def test_a_better_champion_stays_unless_forced(tracked: TrackedRuns, store: TrackingStore) -> None:
    """Which of the two runs is better is random, so both directions are tested."""
    accuracy = {n: tracked.client.get_run(tracked.id(n)).data.metrics["test/accuracy"] for n in ("first", "inception")}
    better, worse = sorted(accuracy, key=lambda name: -accuracy[name])
    if accuracy[better] == accuracy[worse]:
        pytest.skip("both are equally good")
    promote(store, tracked.id(worse), name="rivals", alias="champion", force=False)
    assert (
        "No other model of this name was chosen"
        in promote(store, tracked.id(worse), name="alone", alias="champion", force=False).card
    )
    second = promote(store, tracked.id(better), name="rivals", alias="champion", force=False)
    assert "one of 2 models of this name that were chosen or refused by these test images" in second.card
    with pytest.raises(UserError, match=r"champion \(version 2\) is right on \d+ more of \d+ shared test images"):
        promote(store, tracked.id(worse), name="rivals", alias="champion", force=False)
    assert tracked.client.get_model_version_by_alias("rivals", "champion").run_id == tracked.id(better)
    forced = promote(store, tracked.id(worse), name="rivals", alias="champion", force=True)
    assert forced.version == "1"  # the same model is not registered twice
    assert "one of 2 models of this name" in forced.card  # it has been counted before
    assert forced.sentences[0].startswith("Promoted by force although")
    assert tracked.client.get_model_version_by_alias("rivals", "champion").run_id == tracked.id(worse)


def test_onnxruntime_gives_the_same_probabilities(model: LoadedModel, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    difference = export_onnx(model, tmp_path / "model.onnx")
    assert difference <= TOLERANCE
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(2).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    (probabilities,) = session.run(None, {"pixels": pixels})
    np.testing.assert_allclose(probabilities, model.probabilities(pixels), atol=TOLERANCE)
    assert json.loads(session.get_modelmeta().custom_metadata_map[SPEC_KEY])["size"] == 32
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_strangers_checkpoint_runs_no_code(tracked: TrackedRuns, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path("ran"),))  # type: ignore[return-value]

    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": Evil()}, tmp_path / "checkpoints" / "evil.ckpt")
    with pytest.raises(UserError, match="could run its code"):
        load_model(str(tmp_path / "checkpoints" / "evil.ckpt"), tracking(tracked))
    assert not Path("ran").exists()


def test_a_strangers_config_builds_only_what_is_allowed(tracked: TrackedRuns, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    copy = tmp_path / "checkpoints" / "best.ckpt"
    copy.write_bytes(tracked.checkpoint("first").read_bytes())
    config = (tracked.folder / "first" / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config.replace("eyegender.models.mobilenet_v2.MobileNetV2", "os.system"))
    with pytest.raises(UserError, match="only classes of eyegender are"):
        load_model(str(copy), tracking(tracked))
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"needs the readable config.yaml of its run"):
        load_model(str(copy), tracking(tracked))


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("evaluate", [], "model must be given"),
        ("evaluate", ["model=x"], "model must be models:/NAME@ALIAS"),
        ("evaluate", ["model=x", "split=some"], "split must be 'all', 'train', 'val' or 'test'"),
        ("predict", ["model=x", "images=nowhere"], "images must exist, got nowhere"),
        (
            "predict",
            ["model=x", "images=.", "min_confidence=0.3"],
            "min_confidence must be greater than or equal to",
        ),
        ("predict", ["model=x.ckpt", "images=."], "no image"),
        ("promote", ["run=x"], "no runs are tracked in"),
        ("export", ["model=x.ckpt"], "no checkpoint x.ckpt"),
        ("export", ["model=x", "format=pickle"], "format must be 'onnx', got 'pickle'"),
        ("demo", ["port=99999"], "port must be less than or equal to 65535"),
        # Before the model is looked at.
        (
            "predict",
            ["model=x", "images=.", f"output={__file__}"],
            f"output must be a file that does not exist, got {__file__}; set another output=, or overwrite=true",
        ),
        ("export", ["model=x", f"output={__file__}"], f"output must be a file that does not exist, got {__file__}"),
        ("evaluate", ["model=x", "output=/dev/null"], "output must be a folder, got the file /dev/null"),
        ("compare", ["output=/dev/null"], "output must be a folder, got the file /dev/null"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, command: str, arguments: list[str], message: str) -> None:
    done = run(command, tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())
