"""Sweeps of real trainings: what the study, the trials' runs and their parent hold afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pytest

from eyegender.studies.ties import tied
from hydra_plugins.optuna_study import START, Curve, Scheduler, StudyError, study_status
from tests.composing import TINY
from tests.processes import Command, run
from tests.stores import give_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Run

pytestmark = pytest.mark.integration

STORAGE = "sqlite:///mlruns/optuna.db"


def start(folder: Path, *overrides: str) -> Command:
    give_store(folder / "mlruns")
    return Command("eyegender.train", "-m", *TINY, "hydra.sweeper.heartbeat=1", *overrides, cwd=folder, session=True)


def sweep(folder: Path, *overrides: str, code: int = 0) -> str:
    process = start(folder, *overrides)
    output, _ = process.communicate()
    assert process.returncode == code, output
    return output


def runs(folder: Path) -> tuple[mlflow.MlflowClient, Run, list[Run]]:
    """The client, the study's run, and its trials' runs in order."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    every = client.search_runs([client.get_experiment_by_name("eyegender").experiment_id])
    parents = [run for run in every if run.data.tags.get("study") == "parent"]
    children = [run for run in every if run.data.tags.get("study") != "parent"]
    assert len(parents) == 1
    return client, parents[0], sorted(children, key=lambda run: int(run.data.tags["trial.number"]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("finished")
    return folder, sweep(folder, "+sweeps=finetune", "hydra.sweeper.n_trials=3", "trainer.max_epochs=1")


def test_a_study_is_a_run_with_its_trials_below(finished: tuple[Path, str]) -> None:
    _, parent, trials = runs(finished[0])
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials.complete"] == 3
    assert [trial.data.tags["trial.number"] for trial in trials] == ["0", "1", "2"]
    for trial in trials:
        assert trial.info.status == "FINISHED"
        assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert trial.data.tags["study.name"] == "finetune"


def test_the_winner_alone_was_tested(finished: tuple[Path, str]) -> None:
    folder, output = finished
    _, parent, trials = runs(folder)
    tested = [trial for trial in trials if "test/accuracy" in trial.data.metrics]
    assert len(tested) == 1
    status = study_status(f"sqlite:///{folder}/mlruns/optuna.db", "finetune")
    # With so few synthetic eyes, several trials may be equally good.
    assert tested[0].data.tags["winner"] == ("tied" if tied(status) else "true")
    assert tested[0].data.tags["trial.number"] == str(status.best[0].number)
    assert parent.data.metrics["test/accuracy"] == tested[0].data.metrics["test/accuracy"]
    left = json.loads((folder / "multirun/finetune" / str(status.best[0].number) / "metrics.json").read_text())
    assert left["metrics"]["test/accuracy"] == tested[0].data.metrics["test/accuracy"]
    assert "tested once" in output
    # What the file lists is tried first.
    assert status.trials[0].params == {"model.finetune_depth": 16, "model.lr": 0.001}


def test_the_report_is_in_the_folder_and_in_the_parent_run(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    client, parent, _ = runs(folder)
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "report.md", "trials.csv", "best.json", "figures"} <= names
    figures = {item.path for item in client.list_artifacts(parent.info.run_id, "figures")}
    drawn = ("learning_curves", "history", "slice_model.lr", "slice_model.finetune_depth", "cost")
    assert {f"figures/{name}.png" for name in drawn} <= figures
    assert "Parameter importance" in (folder / "multirun/finetune/report/report.md").read_text()


def test_paused_trials_continue_from_their_checkpoints_and_their_runs_say_so(tmp_path: Path) -> None:
    output = sweep(
        tmp_path, "+sweeps=finetune",
        "hydra.sweeper.n_trials=4", "trainer.max_epochs=4",
    )  # fmt: skip
    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "finetune")
    assert (status.counts.complete + status.counts.pruned, status.counts.paused) == (4, 0)
    epochs = {trial.number: max(trial.reported) for trial in status.trials}
    assert {number for number, last in epochs.items() if last == 4} == {
        trial.number for trial in status.trials if trial.state == "complete"
    }
    assert min(epochs.values()) == 1
    client, _, trials = runs(tmp_path)
    for trial in trials:
        last = epochs[int(trial.data.tags["trial.number"])]
        assert trial.info.status == "FINISHED"
        assert trial.data.tags.get("pruned") == (None if last == 4 else "true")
        assert trial.data.tags.get("paused") == "false"
        history = client.get_metric_history(trial.info.run_id, "accuracy/val")
        assert [point.step for point in history] == list(range(1, last + 1))
    assert "tested once" in output


def test_a_budget_of_epochs_holds_for_all_trainings_together(tmp_path: Path) -> None:
    output = sweep(
        tmp_path, "+sweeps=finetune",
        "hydra.sweeper.n_trials=null", "hydra.sweeper.budget='9 epochs'", "trainer.max_epochs=4",
    )  # fmt: skip
    client, _, trials = runs(tmp_path)
    epochs = [len(client.get_metric_history(trial.info.run_id, "accuracy/val")) for trial in trials]
    assert sum(epochs) <= 9
    assert max(epochs) == 4
    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "finetune")
    assert status.spent == f"{sum(epochs)} epochs of 9 epochs"
    assert epochs[status.best[0].number] == 4
    assert "tested once" in output


class PausesOnce(Scheduler):
    """Pauses each trial after its first epoch, and continues it only if the environment says so."""

    def should_pause(self, curve: Curve, curves: Sequence[Curve]) -> bool:
        return curve.last_step == 1

    def choose(self, curves: Sequence[Curve], may_start: bool) -> int | str | None:
        paused = [curve.number for curve in curves if curve.state == "paused"]
        return START if may_start else paused[0] if paused and "CONTINUE" in os.environ else None


def test_a_larger_budget_continues_the_runs_of_trials_that_a_smaller_one_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (
        "+sweeps=finetune", "hydra/sweeper/scheduler=none", f"hydra.sweeper.scheduler._target_={__name__}.PausesOnce",
        "trainer.max_epochs=3",
    )  # fmt: skip
    sweep(tmp_path, *command, "hydra.sweeper.n_trials=2")
    before = runs(tmp_path)[2]
    assert [(run.info.status, run.data.tags["pruned"]) for run in before] == [("FINISHED", "true")] * 2
    monkeypatch.setenv("CONTINUE", "1")
    output = sweep(tmp_path, *command, "hydra.sweeper.n_trials=3")
    client, parent, trials = runs(tmp_path)
    assert [run.info.run_id for run in trials[:2]] == [run.info.run_id for run in before]
    for trial in trials:
        assert (trial.info.status, trial.data.tags.get("paused")) == ("FINISHED", "false")
        assert trial.data.tags.get("pruned") in (None, "false")
        history = client.get_metric_history(trial.info.run_id, "accuracy/val")
        assert [point.step for point in history] == [1, 2, 3]
    assert parent.data.metrics["trials.complete"] == 3
    assert parent.data.metrics["trials.pruned"] == 0
    assert "3 complete, 0 pruned" in output
    assert "tested once" in output


def test_a_paused_trial_continues_after_all_processes_were_killed(tmp_path: Path) -> None:
    command = (
        "+sweeps=finetune", "hydra/sweeper/scheduler=promotion", "hydra.sweeper.scheduler.min_resource=1",
        "hydra/sweeper/pruner=nop", "hydra.sweeper.n_trials=3", "trainer.max_epochs=8", "data.n=200",
    )  # fmt: skip
    process = start(tmp_path, *command)
    storage = f"sqlite:///{tmp_path}/mlruns/optuna.db"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.returncode is None:
        # Killed in the second epoch of a trial or later: all of them paused after the first one.
        with suppress(StudyError):
            if any(
                row.state == "running" and (max(row.reported, default=0) > 1)
                for row in study_status(storage, "finetune").trials
            ):
                break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    output = sweep(tmp_path, *command)
    status = study_status(storage, "finetune")
    assert (status.counts.complete + status.counts.pruned, status.counts.paused, status.counts.failed) == (3, 0, 0)
    client, _, trials = runs(tmp_path)
    epochs = {trial.number: max(trial.reported) for trial in status.trials}
    assert [int(trial.data.tags["trial.number"]) for trial in trials] == sorted(epochs)  # one run a trial
    for trial in trials:
        history = client.get_metric_history(trial.info.run_id, "accuracy/val")
        assert [point.step for point in history] == list(range(1, epochs[int(trial.data.tags["trial.number"])] + 1))
        assert trial.info.status == "FINISHED"
        assert trial.data.tags.get("paused") in (None, "false")
    assert "tested once" in output


def test_the_same_command_on_a_finished_study_only_reports(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    before = [run.info.run_id for run in runs(folder)[2]]
    sweep(folder, "+sweeps=finetune", "hydra.sweeper.n_trials=3", "trainer.max_epochs=1")
    assert [run.info.run_id for run in runs(folder)[2]] == before


def test_the_printed_command_trains_the_winner_again(finished: tuple[Path, str]) -> None:
    folder, output = finished
    line = next(line for line in output.splitlines() if line.startswith("Retrain"))
    arguments = line.removeprefix("Retrain").split()[3:]
    assert not any("sweep" in argument for argument in arguments)
    assert any(argument.startswith("model.lr=") for argument in arguments)
    done = run("eyegender.train", *arguments, "--cfg", "job", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_if_the_winners_folder_is_gone_the_next_best_trial_is_tested(finished: tuple[Path, str]) -> None:
    """Continues the study of the tests above, so it comes after them."""
    folder, _ = finished
    storage = f"sqlite:///{folder}/mlruns/optuna.db"
    gone = study_status(storage, "finetune").best[0].number
    shutil.rmtree(folder / "multirun/finetune" / str(gone))
    command = ("+sweeps=finetune", "hydra.sweeper.n_trials=4", "trainer.max_epochs=1")
    output = sweep(folder, *command, "hydra.sweeper.enqueue=[{model.finetune_depth: 0, model.lr: 1e-4}]")
    best = [trial.number for trial in study_status(storage, "finetune").best]
    following = best[best.index(gone) + 1] if best[0] == gone else best[0]
    assert f"trial {following}, tested once: " in output  # as the winner, or of those that tie
    assert (f"Skipped  trial {gone}, which cannot be tested: its folder " in output) == (best[0] == gone)
    _, parent, _ = runs(folder)
    assert parent.data.tags["tested.trial"] == str(following)
    assert "Skipped" not in sweep(folder, *command)


def test_a_pruned_trial_is_a_finished_run_with_its_metrics_up_to_there(tmp_path: Path) -> None:
    sweep(
        tmp_path, "+sweeps=finetune", "hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.lower=2",
        "hydra.sweeper.n_trials=2", "trainer.max_epochs=3",
    )  # fmt: skip
    client, parent, trials = runs(tmp_path)
    assert parent.data.metrics["trials.pruned"] == 2
    for trial in trials:
        assert trial.info.status == "FINISHED"
        assert trial.data.tags["pruned"] == "true"
        assert len(client.get_metric_history(trial.info.run_id, "accuracy/val")) < 3


def test_a_trial_that_diverges_is_a_failed_run_with_its_reason_and_the_sweep_continues(tmp_path: Path) -> None:
    sweep(
        tmp_path, "+sweeps=finetune", "model.lr=choice(1e30, 1e-3)", "model.finetune_depth=all",
        "trainer.gradient_clip=null",
        "hydra.sweeper.enqueue=[{model.lr: 1e30}, {model.lr: 1e-3}, {model.lr: 1e-3}]",
        "hydra.sweeper.n_trials=2", "hydra.sweeper.max_failure_rate=1", "trainer.max_epochs=4",
        "hydra/sweeper/scheduler=none",
    )  # fmt: skip
    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "finetune")
    assert (status.counts.complete, status.counts.failed) == (2, 1)
    assert "not finite" in (status.failures[0].reason or "")
    _, _, trials = runs(tmp_path)
    assert sorted(run.info.status for run in trials) == ["FAILED", "FINISHED", "FINISHED"]


def test_after_a_kill_the_same_command_resumes_the_study(tmp_path: Path) -> None:
    command = (
        "+sweeps=finetune",
        "hydra.sweeper.n_trials=2",
        "trainer.max_epochs=8",
        "data.n=200",
        "hydra/sweeper/scheduler=none",
    )
    process = start(tmp_path, *command)
    checkpoint = tmp_path / "multirun/finetune/0/checkpoints/last.ckpt"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert checkpoint.exists()
    assert not (tmp_path / "multirun/finetune/0/metrics.json").exists()
    sweep(tmp_path, *command)
    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "finetune")
    assert (status.counts.complete, status.counts.failed) == (2, 0)
    client, _, trials = runs(tmp_path)
    assert len(trials) == 2  # one run a trial, whatever happened
    for trial in trials:
        history = client.get_metric_history(trial.info.run_id, "accuracy/val")
        assert [point.step for point in history] == list(range(1, 9))
        assert trial.info.status == "FINISHED"


def test_a_mistake_in_the_search_space_stops_before_any_trial(tmp_path: Path) -> None:
    output = sweep(tmp_path, "+sweeps=finetune", "model.lrr=interval(0, 1)", code=2)
    assert len(output.strip().splitlines()) == 1
    assert "model.lrr" in output


def test_two_processes_in_a_trial_are_one_trial(tmp_path: Path) -> None:
    sweep(
        tmp_path, "+sweeps=finetune", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
        "hydra.sweeper.n_trials=2", "trainer.max_epochs=1",
    )  # fmt: skip
    _, _, trials = runs(tmp_path)
    assert [run.info.status for run in trials] == ["FINISHED", "FINISHED"]
    assert study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "finetune").counts.complete == 2


def test_both_processes_of_a_trial_pause_and_continue_together(tmp_path: Path) -> None:
    sweep(
        tmp_path, "+sweeps=finetune", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
        "hydra/sweeper/scheduler=promotion", "hydra.sweeper.scheduler.reduction_factor=2", "hydra/sweeper/pruner=nop",
        # They tie, and of two equal trials the first continues.
        "hydra.sweeper.enqueue=[{model.lr: 1e-3}, {model.lr: 1.000001e-3}]", "model.finetune_depth=0",
        "hydra.sweeper.n_trials=2", "trainer.max_epochs=2",
    )  # fmt: skip
    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "finetune")
    assert [(trial.state, max(trial.reported), trial.attempt) for trial in status.trials] == [
        ("complete", 2, 0), ("pruned", 1, 0),
    ]  # fmt: skip
    client, _, trials = runs(tmp_path)
    for trial, epochs in zip(trials, (2, 1), strict=True):
        history = client.get_metric_history(trial.info.run_id, "accuracy/val")
        assert [point.step for point in history] == list(range(1, epochs + 1))


def test_several_objectives(tmp_path: Path) -> None:
    sweep(
        tmp_path, "+sweeps=pareto", "hydra.sweeper.n_trials=2", "trainer.max_epochs=1",
        "model=mobilenet_v2", "data.size=choice(32, 48)",
    )  # fmt: skip
    status = study_status(f"sqlite:///{tmp_path}/mlruns/optuna.db", "pareto")
    assert status.counts.complete == 2
    assert all(0 <= trial.values[0] <= 1 and trial.values[1] > 0 for trial in status.trials)
