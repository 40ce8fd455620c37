from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from eyegender.core.schema import parse
from eyegender.core.secrets import redact, redact_config, redact_override
from eyegender.tracking.client import connect
from eyegender.tracking.location import Location
from eyegender.tracking.tracker import Tracker
from hydra_plugins.optuna_study import _redaction
from hydra_plugins.optuna_study._redaction import passwords_in
from tests.composing import SMALL, compose_config
from tests.planted import assert_nowhere


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:canary@host:5432/db", "postgresql://u:***@host:5432/db"),
        ("postgresql+psycopg2://u:can/ary@host/db", "postgresql+psycopg2://u:***@host/db"),
        ("could not connect to http://:canary@h, retrying", "could not connect to http://:***@h, retrying"),
        ("https://h/x?token=canary&y=1", "https://h/x?token=***&y=1"),
        ("postgresql://u:can@ary@host/db", "postgresql://u:***@host/db"),
        ("postgresql://me@server:can@ary@host/db", "postgresql://me@server:***@host/db"),
        ("postgresql://u:can'\"ary@host/db", "postgresql://u:***@host/db"),
        ("a://u:can@ary@h,b://v:canary@i and c://w:canary@j", "a://u:***@h,b://v:***@i and c://w:***@j"),
        ("sqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("http://127.0.0.1:5000/#/experiments/1", "http://127.0.0.1:5000/#/experiments/1"),
    ],
)
def test_urls(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_configs() -> None:
    config = {"db": {"password": "canary", "api_key": "canary", "url": "a://b:canary@c"}, "cls_token": "kept", "n": 1}
    assert "canary" not in str(redact_config(config))
    assert redact_config(config)["cls_token"] == "kept"
    assert redact_config(config)["n"] == 1


def test_overrides() -> None:
    assert redact_override("+x.password=canary") == "+x.password=***"
    assert redact_override("tracking.uri=http://u:canary@h") == "tracking.uri=http://u:***@h"
    assert redact_override("model.lr=1e-3") == "model.lr=1e-3"


@pytest.mark.parametrize("url", ["x://u:pa@ss@host/db", "x://u:pa%40ss@host/db@1", "x://u:pa@ss/w@host/db"])
def test_a_password_with_a_separator_is_recognized_completely(url: str) -> None:
    assert {"pa@ss", "pa@ss/w"} & set(passwords_in(url))


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that are ordinary words, and one that is not."""
    monkeypatch.setattr(_redaction, "_registered", set())
    _redaction.register(["eyegender", "test", "metrics", "artifact", "s3cr3t-w0rd"])


@pytest.mark.usefixtures("remembered")
def test_a_secret_is_hidden_as_a_whole_word_only() -> None:
    assert redact("password 'test' refused") == "password '***' refused"
    longer = "test_predictions.json, latest, tests, eyegenders"
    assert redact(longer) == longer
    assert redact("before s3cr3t-w0rd, s3cr3t-w0rds") == "before ***, s3cr3t-w0rds"


@pytest.mark.usefixtures("remembered")
def test_a_password_that_is_an_ordinary_word_does_not_change_names() -> None:
    config = {"tracking": {"experiment": "eyegender", "note": "test"}, "model": {"name": "metrics"}, "monitor": "test"}
    assert redact_config(config) == {
        "tracking": {"experiment": "eyegender", "note": "***"},
        "model": {"name": "metrics"},
        "monitor": "test",
    }
    assert redact_override("tracking.experiment=eyegender") == "tracking.experiment=eyegender"
    assert redact_override("+experiment=test") == "+experiment=test"
    assert redact_override("data.note=s3cr3t-w0rd") == "data.note=***"
    assert redact_override("tracking.experiment=x://u:canary@h") == "tracking.experiment=x://u:***@h"


def test_a_config_stays_readable_if_a_password_is_one_of_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose_config(*SMALL, "data=folder", "data.root=/data/eyes", "data.classes=[femaleeyes,maleeyes]")
    written = parse(cfg).model_dump(mode="json", by_alias=True)
    words = {word for text in str(written).split("'") for word in (text, *re.findall(r"\w+", text))}
    monkeypatch.setattr(_redaction, "_registered", {word for word in words if len(word) >= 4})
    assert redact_config(written) == written
    assert redact_config({"tags": "on eyes"}) == {"tags": "on ***"}


@pytest.mark.usefixtures("remembered")
def test_tracked_values_contain_no_secret_and_complete_names(location: Location, tmp_path: Path) -> None:
    folder = tmp_path / "metrics" / "test"
    (folder / "artifact").mkdir(parents=True)
    (folder / "artifact" / "metrics.json").write_text("{}")
    tracker = Tracker(
        location, folder, experiment="eyegender", name="test of http://u:s3cr3t-w0rd@h",
        tags={"study.name": "metrics", "mlflow.parentRunId": "test", "output_dir": str(folder), "note": "s3cr3t-w0rd"},
    )  # fmt: skip
    tracker.log_params(
        {"model.name": "test", "data.note": "a s3cr3t-w0rd", "hub.token": "canary", "db": "x://u:canary@h"}
    )
    tracker.log_metrics({"test/metrics": 1.0}, step=1)
    tracker.log_dataset(name="test", digest="metrics", source="/data/test", profile='{"test": 1}')
    tracker.log_artifact("artifact/metrics.json", "test")
    assert tracker.close("FINISHED", 60)
    client = connect(location.uri)
    [run] = client.search_runs([client.get_experiment_by_name("eyegender").experiment_id])
    assert run.info.run_name == "test of http://u:***@h"
    assert run.data.metrics == {"test/metrics": 1.0}
    expected = {"study.name": "metrics", "mlflow.parentRunId": "test", "output_dir": str(folder), "note": "***"}
    assert expected.items() <= run.data.tags.items()
    assert run.data.params == {"model.name": "test", "data.note": "a ***", "hub.token": "***", "db": "x://u:***@h"}
    assert [item.path for item in client.list_artifacts(run.info.run_id, "test")] == ["test/metrics.json"]
    [entry] = run.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest, entry.dataset.profile) == ("test", "metrics", '{"test": 1}')
    ops = [json.loads(line)["op"] for line in (folder / "tracking.jsonl").read_text().splitlines()]
    assert ops == ["run", "params", "metrics", "dataset", "artifact", "end"]
    assert_nowhere(["s3cr3t-w0rd", "canary"], tmp_path)
