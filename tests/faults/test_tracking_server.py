"""A real MLflow server that is unreachable, is killed, answers 500, hangs or loses its answers during training."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from eyegender.core.errors import UserError
from eyegender.tracking import sender as sender_module
from eyegender.tracking.names import stored_name
from eyegender.tracking.sender import pending, send
from eyegender.training.callbacks import EpochHistory
from eyegender.training.run import RunResult, train
from tests.composing import TINY, tiny_config
from tests.faults.mlflow_server import Proxy, Server
from tests.processes import Command

pytestmark = pytest.mark.integration

EPOCHS = 5
ARTIFACTS = {"config.yaml", "environment.json", "metrics.json", "val_predictions.json", "figures"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "LONGEST_PAUSE", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


def trained(
    folder: Path,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    after: dict[int, Callable[[EpochHistory], None]],
    close_timeout: int = 1,
) -> RunResult:
    """Train a run, and call functions after some of its epochs."""
    plain = EpochHistory.on_train_epoch_end

    def then(self: EpochHistory, trainer: Any, module: Any) -> None:
        plain(self, trainer, module)
        after.get(trainer.current_epoch + 1, lambda _: None)(self)

    monkeypatch.setattr(EpochHistory, "on_train_epoch_end", then)
    return train(
        tiny_config(
            "tracking=server", f"tracking.uri={uri}", f"trainer.max_epochs={EPOCHS}", "run_test=false",
            f"tracking.close_timeout={close_timeout}", f"tracking.experiment={folder.name}",
        ),
        folder,
    )  # fmt: skip


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def assert_whole(server: Server, folder: Path, result: RunResult) -> None:
    """The store contains the run once, each metric once per epoch and in order, and all artifacts."""
    assert pending(folder) == []
    client = mlflow.MlflowClient(server.url)
    [run] = client.search_runs([client.get_experiment_by_name(folder.name).experiment_id])
    assert run.info.status == "FINISHED"
    for name in ("train/loss", "train/accuracy", "val/loss", "val/auroc", "lr", "epoch_seconds"):
        points = client.get_metric_history(run.info.run_id, stored_name(name))
        assert [point.step for point in points] == list(range(1, EPOCHS + 1)), name
        assert [point.value for point in points] == [row[name] for row in result.history], name
    assert len(client.get_metric_history(run.info.run_id, "val_best/accuracy")) == 1
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == ARTIFACTS
    assert len(run.inputs.dataset_inputs) == 1
    assert len(run.outputs.model_outputs) == 1
    assert run.data.params["model.name"] == "mobilenet_v2"


def test_server_unreachable_at_the_start_and_the_end_and_killed_in_the_middle(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.stop()

    def comes(history: EpochHistory) -> None:
        assert history.tracker is not None
        assert history.tracker.sender.problem is not None
        server.start()
        until(lambda: history.tracker.run_id)

    result = trained(tmp_path / "away", server.url, monkeypatch, {2: comes, 3: lambda _: server.stop()})
    assert result.run_id is not None  # known since the server was reachable
    printed = capsys.readouterr().out
    assert "Tracking is incomplete" in printed
    assert "eyegender sync folder=" in printed
    server.start()
    [folder] = pending(tmp_path)
    send(folder, None)
    assert_whole(server, folder, result)


def test_server_answers_500_loses_answers_and_hangs(
    server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.mode = "500"

    def turns(mode: str, known: bool = False) -> Callable[[EpochHistory], None]:
        def turn(history: EpochHistory) -> None:
            until(lambda: proxy.mode in proxy.seen)
            if known:
                until(lambda: history.tracker.run_id)
            proxy.mode = mode

        return turn

    trackers = []
    turn_last = turns("hang", known=True)

    def last(history: EpochHistory) -> None:
        trackers.append(history.tracker)
        turn_last(history)

    result = trained(tmp_path / "bad", proxy.url, monkeypatch, {1: turns("lose"), 2: turns("pass"), 3: last})
    assert proxy.seen == {"500", "lose", "pass", "hang"}
    proxy.mode = "pass"
    until(lambda: not trackers[0].sender.is_alive())  # it waits for an answer; in a command, it ends with the process
    [folder] = pending(tmp_path)
    send(folder, None)
    assert_whole(server, folder, result)
    assert send(folder, None)[0] == 0


def test_a_refused_login_is_reported_before_training_and_loses_nothing_during_it(
    server: Server,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy.mode = "401"
    with pytest.raises(UserError, match="got status 401; set MLFLOW_TRACKING_TOKEN"):
        trained(tmp_path / "refused", proxy.url, monkeypatch, {})
    assert {path.name for path in (tmp_path / "refused").iterdir()} <= {"run.lock"}
    proxy.mode = "pass"

    def ends(history: EpochHistory) -> None:
        until(lambda: history.tracker.run_id)
        proxy.mode = "401"

    result = trained(tmp_path / "ended", proxy.url, monkeypatch, {2: ends})
    assert "MLFLOW_TRACKING_PASSWORD, to a valid login, then send the rest with" in " ".join(
        capsys.readouterr().out.split()
    )
    assert caplog.text.count("the store accepts nothing") == 1
    [folder] = pending(tmp_path)
    with pytest.raises(UserError, match="then the store accepted no more .*valid login"):
        send(folder, None)
    proxy.mode = "pass"
    send(folder, None)
    assert_whole(server, folder, result)


def test_uploads_that_a_proxy_refuses_are_postponed_and_everything_else_is_sent(
    server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.mode = "413 files"
    result = trained(tmp_path / "large", proxy.url, monkeypatch, {}, close_timeout=100)
    printed = " ".join(capsys.readouterr().out.split())
    assert "failed 3 times" in printed
    assert "client_max_body_size" in printed
    client = mlflow.MlflowClient(server.url)
    run = client.get_run(str(result.run_id))
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "loss/train")) == EPOCHS
    [folder] = pending(tmp_path)
    with pytest.raises(UserError, match="sent all but .* failed 3 times"):
        send(folder, None)
    proxy.mode = "pass"
    send(folder, None)
    assert_whole(server, folder, result)


@pytest.mark.parametrize("mode", ["hang", "hang files"])
def test_a_command_ends_even_if_its_server_hangs(proxy: Proxy, tmp_path: Path, mode: str) -> None:
    proxy.mode = mode
    command = Command(
        "eyegender.train", *TINY, "data.n=40", "trainer.max_epochs=1", "model.finetune_depth=0", "run_test=false",
        "tracking=server", f"tracking.uri={proxy.url}", "tracking.close_timeout=5", "hydra.run.dir=out",
    )  # fmt: skip
    output, _ = command.communicate(timeout=300)
    assert command.returncode == 0, output
    assert "Tracking is incomplete" in output
    assert "hang" in proxy.seen
    assert pending(tmp_path) == [tmp_path / "out"]
