"""What a study's report claims: what mattered, and who won."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from mlflow.entities import RunData
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from rich.console import Console

from eyegender.studies import study_run, winner
from eyegender.studies.importance import importance_figure, importances
from eyegender.studies.report import write_report
from eyegender.studies.status_table import show_status
from eyegender.studies.study_run import PARENT_KEY, StudyRun
from eyegender.studies.ties import tie_sentence
from eyegender.tracking.location import find_location
from eyegender.tracking.notes import NOTE
from eyegender.tracking.writer import RunWriter
from hydra_plugins.optuna_study import study_status
from tests.stores import give_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hydra_plugins.optuna_study import StudyStatus, TrialRow

DEPTH, RATE = IntDistribution(0, 19), FloatDistribution(1e-4, 5e-3, log=True)


def made(
    values: Sequence[float | None] | Callable[[int, float], float],
    folder: Path,
    n: int = 24,
    directions: Sequence[str] = ("maximize",),
) -> tuple[optuna.Study, StudyStatus]:
    """A finished study over depth and rate; a value of None is a pruned trial."""
    rng = np.random.default_rng(0)
    where = f"sqlite:///{folder}/study.db"
    study = optuna.create_study(study_name="s", storage=where, directions=list(directions))
    count = n if callable(values) else len(values)
    for i in range(count):
        depth, rate = int(rng.integers(0, 20)), float(np.exp(rng.uniform(np.log(1e-4), np.log(5e-3))))
        value = values(depth, rate) if callable(values) else values[i]
        state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
        value_list = None if value is None else [value] * len(directions)
        study.add_trial(
            optuna.trial.create_trial(
                state=state, values=value_list, params={"depth": depth, "rate": rate},
                distributions={"depth": DEPTH, "rate": RATE}, user_attrs={"output_dir": str(folder / str(i))},
            )
        )  # fmt: skip
    return study, study_status(where, "s")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_decisive_parameter_is_important_in_either_direction(direction: str, tmp_path: Path) -> None:
    sign = 1 if direction == "maximize" else -1
    study, _ = made(lambda depth, _: sign * depth / 20, tmp_path, directions=[direction])
    [found] = importances(study)
    assert list(found.shares) == ["depth", "rate"]
    assert found.shares["depth"].share > 0.9
    assert found.shares["depth"].low > 0.5 > found.shares["rate"].high
    assert found.n_trials == 24


def test_importances_depend_on_the_seed_and_sum_to_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    study, _ = made(lambda *_: float(rng.normal()), tmp_path)
    [found] = first = importances(study)
    assert first == importances(study)
    assert first != importances(study, seed=7)
    assert sum(one.share for one in found.shares.values()) == pytest.approx(1.0)
    for one in found.shares.values():
        assert one.low <= one.share <= one.high
        assert one.high - one.low > 0.5  # chance alone: nobody can tell


def test_table_figure_and_file_contain_the_same_numbers(tmp_path: Path) -> None:
    study, status = made(lambda depth, rate: depth / 20 + 50 * rate, tmp_path)
    [found] = importances(study)
    page = write_report(study, status, tmp_path).with_suffix(".md")
    stored = json.loads((tmp_path / "report" / "best.json").read_text())["importances"]
    assert stored == [found.to_json()]
    table = re.findall(r"\| (\w+) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|", page.read_text())
    assert table == [(name, *(f"{number:.2f}" for number in one)) for name, one in found.shares.items()]
    bars = [bar.get_width() for bar in importance_figure([found]).axes[0].patches]
    assert bars == [one.share for one in reversed(found.shares.values())]
    assert (tmp_path / "report" / "figures" / "importances.png").is_file()


@pytest.mark.parametrize(
    "values", [[0.9] * 12, [0.9] * 12 + [None] * 4, [0.9, 0.8, 0.7, 0.6], [None] * 8, [float("inf")] * 8], ids=str
)
def test_no_importances_if_the_trials_do_not_differ(values: list[float | None], tmp_path: Path) -> None:
    study, _ = made(values, tmp_path)
    assert importances(study) == []


def test_a_report_of_equal_trials_contains_no_importances(tmp_path: Path) -> None:
    study, status = made([0.9] * 6, tmp_path)
    left = tmp_path / "report" / "figures" / "importances.png"
    left.parent.mkdir(parents=True)
    left.touch()  # of an earlier report
    page = write_report(study, status, tmp_path).with_suffix(".md").read_text()
    assert "Importance is unknown" in page
    assert "importances.png" not in page
    assert not left.exists()
    assert json.loads((tmp_path / "report" / "best.json").read_text())["importances"] == []


def test_pruned_trials_change_no_importance(tmp_path: Path) -> None:
    values = [float(i % 5) for i in range(12)]
    (tmp_path / "with").mkdir()
    plain, _ = made(values, tmp_path)
    pruned, _ = made([*values, None, None], tmp_path / "with")
    assert importances(plain) == importances(pruned)


def test_conditional_parameters_are_measured_within_their_branch() -> None:
    rng = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize")
    kinds: dict[str, Any] = {"model": CategoricalDistribution(["a", "b"]), "rate": RATE}
    for i in range(40):
        model, depth = "ab"[i % 2], int(rng.integers(0, 20))
        own = {f"depth (model={model})": depth}
        params = {"model": model, "rate": float(rng.uniform(1e-4, 5e-3)), **own}
        value = depth / 20 if model == "a" else 0.5 + 50 * params["rate"]
        distributions = kinds | dict.fromkeys(own, DEPTH)
        study.add_trial(optuna.trial.create_trial(value=value, params=params, distributions=distributions))
    everywhere, a, b = importances(study)
    assert (everywhere.subset, set(everywhere.shares)) == ("all trials", {"model", "rate"})
    assert (a.subset, a.n_trials, list(a.shares)) == ("trials with depth (model=a)", 20, ["depth (model=a)", "rate"])
    assert (b.subset, b.n_trials, list(b.shares)) == ("trials with depth (model=b)", 20, ["rate", "depth (model=b)"])
    assert len(importance_figure([everywhere, a, b]).axes) == 3


def test_importances_are_of_the_first_objective(tmp_path: Path) -> None:
    study, status = made(lambda depth, _: depth / 20, tmp_path, directions=["maximize", "minimize"])
    assert next(iter(importances(study)[0].shares)) == "depth"
    assert tie_sentence(status) is None


def test_a_tie_for_the_best_value_is_reported_and_has_no_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, status = made([0.9, 0.8, 0.9, 0.9, None, 0.9], tmp_path)
    sentence = "4 trials tie at 0.9: 0, 2, 3 and 5"
    assert tie_sentence(status) == sentence
    tested = {"test/accuracy": 0.875}
    page = write_report(study, status, tmp_path, winner=status.best[0], tested=tested)
    assert sentence in page.read_text()
    page = page.with_suffix(".md").read_text()
    assert sentence in page
    assert "Trial 0, the first of them, was tested once: accuracy 87.50%." in page
    assert "winner" not in page.lower()
    console = Console(record=True, width=100)
    show_status(status, console)
    assert sentence in console.export_text()

    tags, stored = study_end(study, status, tmp_path, monkeypatch)
    output = capsys.readouterr().out
    assert f"Tie      {sentence}; trial 0, tested once: test accuracy 87.50%" in output
    assert "Winner" not in output
    assert tags == {"tied": True}
    assert stored.tags["best.tied"] == "0 2 3 5"


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_paused_trials_are_listed_with_what_waits_before_them(tmp_path: Path, direction: str) -> None:
    _, status = made([0.7], tmp_path)
    sign = 1 if direction == "maximize" else -1

    def row(number: int, state: str, *values: float) -> TrialRow:
        reported = dict(enumerate((sign * value for value in values), start=1))
        return replace(status.trials[0], number=number, state=state, reported=reported)

    rows = [
        row(0, "complete", 0.9, 0.9, 0.9), row(1, "paused", 0.8), row(2, "paused", 0.7), row(3, "paused", 0.6),
        row(4, "paused", 0.5, 0.6), row(5, "failed", 0.95), row(6, "paused", float("nan")), row(7, "paused"),
        row(1008, "paused", 0.4),
    ]  # fmt: skip
    console = Console(record=True, width=80)
    show_status(replace(status, trials=rows, directions=(direction,), spent="412 epochs of 500 epochs"), console)
    lines = [line for line in console.export_text().splitlines() if line.startswith(("paused", "Budget"))]
    dash = "" if sign > 0 else "-"
    assert lines == [
        "Budget   412 epochs of 500 epochs spent",
        f"paused   trial 1: {dash}0.8000 after epoch 1, rank 2 of 7; first of the paused",
        f"paused   trial 2: {dash}0.7000 after epoch 1, rank 3 of 7; behind 1",
        f"paused   trial 3: {dash}0.6000 after epoch 1, rank 4 of 7; behind 1, 2",
        f"paused   trial 4: {dash}0.6000 after epoch 2, rank 2 of 2; first of the paused",
        "paused   trial 6: nan after epoch 1, rank 7 of 7; behind 1, 2 and 3 more",
        "paused   trial 7, before its first epoch",
        f"paused   trial 1008: {dash}0.4000 after epoch 1, rank 6 of 7; behind 1, 2 and 2 more",
    ]
    assert max(map(len, lines)) <= 80


def test_a_single_best_trial_is_the_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, status = made([0.7, 0.9, 0.8], tmp_path)
    assert tie_sentence(status) is None
    tags, stored = study_end(study, status, tmp_path, monkeypatch)
    assert "Winner   trial 1, tested once: test accuracy 87.50%" in capsys.readouterr().out
    assert tags == {"tied": False}
    assert (stored.tags["best.trial"], stored.tags["best.tied"]) == ("1", "no")
    assert stored.metrics == {
        "study/best_value": 0.9, "best_value": 0.9, "test/accuracy": 0.875,
        "trials.complete": 3, "trials.pruned": 0, "trials.failed": 0,
    }  # fmt: skip
    note = stored.tags[NOTE]
    assert note.startswith("Trial 1 was tested once: accuracy **87.5%**.")
    assert "3 complete trials, 0 pruned, 0 failed. [Report](#/experiments/" in note
    assert "- `depth`: range(0, 20)" in note


def test_many_tied_trials_are_counted(tmp_path: Path) -> None:
    _, status = made([0.5] * 20, tmp_path)
    assert tie_sentence(status) == "20 trials tie at 0.5: 0, 1, 2, 3, 4, 5, 6 and 13 more"


def study_end(
    study: optuna.Study, status: StudyStatus, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], RunData]:
    """What the study's end asks of the test of its best trial, and what its run has then."""
    asked: dict[str, Any] = {}

    def no_evaluation(*_: object, **options: object) -> dict[str, float]:
        asked.update(options)
        return {"test/accuracy": 0.875}

    location = find_location(None, str(folder / "mlruns"))
    give_store(folder / "mlruns")
    writer = RunWriter(location.uri, location.artifacts, folder)
    writer.apply({"op": "run", "key": "key", "experiment": "e", "name": "study s", "tags": {}, "time": 1})

    class Handle:
        name, sweep_dir, user_attrs, directions = "s", folder, {PARENT_KEY: "key"}, status.directions
        definition = {"depth": "range(0, 20)"}  # noqa: RUF012

        def load(self) -> optuna.Study:
            return study

    monkeypatch.setattr(study_run, "_best_usable", lambda status, _: status.best[0])  # these trials left no files
    monkeypatch.setattr(winner, "evaluate_winner", no_evaluation)
    monkeypatch.setattr(winner, "retrain_command", lambda _: "")
    monkeypatch.setattr(study_run.StudyRun, "_open_run", lambda *_: writer)
    StudyRun("e", None, None).on_study_end(Handle(), status)  # type: ignore[arg-type]
    return asked, writer.client.get_run(str(writer.run_id)).data
