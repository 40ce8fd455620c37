"""Samplers and pruners treat interrupted trials as if nothing had been interrupted."""

from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hydra_plugins.optuna_study import TrialInterrupted, TrialPruned, current_trial
from hydra_plugins.optuna_study._budget import (
    COMPLETION,
    FIRST_ATTEMPT,
    RETRY_HISTORY,
    merge_attempts,
    number_without_retries,
    reports_of,
)
from hydra_plugins.optuna_study._optuna import build_pruner

from .sweeping import load, multirun, run

STEPS = 10
# Where a first attempt ends: before it reports, between report and question, or before it acts on the answer.
MOMENTS = ("report", "question", "answer")


def value_of(cell: int, step: int) -> float:
    return (cell * 7919 % 101) / 101 + 1 / (step + 1 + cell % 5)


def toy(stops: set[int], done: Counter[tuple[int, int]], several: bool) -> Any:
    """A task whose trials are interrupted at these steps.

    Each third of them at another moment, every fourth twice; half of them resume from a checkpoint, half start again.
    """

    def task(cfg: Any) -> float | list[float]:
        trial, cell = current_trial(), int(cfg.x)

        def stop(moment: str) -> None:
            if step in stops and moment == MOMENTS[cell % 3] and done[cell, step] < 1 + (cell % 4 == 0):
                done[cell, step] += 1
                raise TrialInterrupted

        for step in range(STEPS):
            if cell % 2 and trial.last_step is not None and step <= trial.last_step:
                continue
            stop("report")
            trial.report(value_of(cell, step), step)
            stop("question")
            prune = trial.should_prune()
            stop("answer")
            if prune:
                raise TrialPruned
        return [value_of(cell, STEPS), 0.0] if several else value_of(cell, STEPS)

    return task


def decisions(name: str, task: Any, *overrides: str) -> list[tuple[Any, ...]]:
    # The brackets depend on the study's name, so all studies here have the same.
    multirun(task, f"hydra.sweeper.storage=sqlite:///{name}.db", "hydra/sweeper/sampler=grid", "x=range(0,12)",
             "y=choice(0)", "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=12", *overrides)  # fmt: skip
    return ended(name)


def ended(name: str) -> list[tuple[Any, ...]]:
    """Number, value of x, state, what was reported and the rungs of each trial, attempts taken together."""
    trials = merge_attempts(load(url=f"sqlite:///{name}.db").trials)
    rungs = [{k: v for k, v in trial.system_attrs.items() if k.startswith("completed_rung")} for trial in trials]
    return [(t.number, t.params["x"], t.state, reports_of(t), each) for t, each in zip(trials, rungs, strict=True)]


@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband", "hyperband of several objectives"])
def test_brackets_and_rungs_are_as_if_nothing_had_been_interrupted(pruner):
    several = "several" in pruner
    overrides = [f"hydra/sweeper/pruner={pruner.split()[0]}"]
    if several:
        overrides.append("hydra.sweeper.direction=[minimize,minimize]")
    undisturbed = decisions("undisturbed", toy(set(), Counter(), several), *overrides)
    done: Counter[tuple[int, int]] = Counter()
    disturbed = decisions("disturbed", toy({0, 1, 3, 9}, done, several), *overrides)
    assert done.total() > 10
    assert len(load(url="sqlite:///disturbed.db").trials) == 12 + done.total()
    assert {state for _, _, state, *_ in undisturbed} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert disturbed == undisturbed


@pytest.mark.integration
def test_brackets_and_rungs_survive_that_workers_are_killed(sweep):
    over = ("hydra/sweeper/sampler=grid", "x=range(0,10)", "y=choice(0)", "hydra.sweeper.sampler.seed=1", "steps=9",
            "hydra/sweeper/pruner=hyperband")  # fmt: skip
    sweep("mode=prune", "hydra.sweeper.storage=sqlite:///undisturbed.db", *over)
    run("mode=prune_and_die", "hydra.sweeper.storage=sqlite:///killed.db", "hydra/launcher=joblib", *over)
    assert {number for number, *_ in ended("killed")} == set(range(10))
    assert len(load(url="sqlite:///killed.db").trials) == 12
    assert ended("killed") == ended("undisturbed")


def attempts(*given: tuple[int, ...]) -> list[optuna.trial.FrozenTrial]:
    """Trials numbered from 0, each with the numbers of its earlier attempts."""
    made = []
    for number, history in enumerate(given):
        attrs = {RETRY_HISTORY: list(history), FIRST_ATTEMPT: history[0]} if history else {}
        trial = create_trial(state=TrialState.WAITING, system_attrs=attrs)
        trial.number = number
        made.append(trial)
    return made


def test_the_attempts_of_a_trial_are_one_trial_numbered_without_retries():
    given = attempts((), (), (1,), (), (1, 2), (), (3,))
    shown = merge_attempts(given)
    assert [(trial.number, trial.system_attrs.get(RETRY_HISTORY)) for trial in shown] == [
        (0, None), (1, [1, 2]), (2, [3]), (3, None)]  # fmt: skip
    assert [number_without_retries(trial, given) for trial in given] == [0, 1, 1, 2, 1, 3, 2]
    assert [trial.number for trial in given] == list(range(7))
    assert merge_attempts(given[:2]) == given[:2]


def test_a_requeued_trial_has_its_attributes():
    given = attempts((), (), (0,))
    given[1].system_attrs = {"completed_rung_0": 1.0}
    assert [trial.system_attrs.get("completed_rung_0") for trial in merge_attempts(given)] == [None, 1.0]


@pytest.mark.parametrize(
    ("config", "attribute", "resource"),
    [
        ({"_target_": "optuna.pruners.HyperbandPruner", "max_resource": "auto"}, "_max_resource", 9),
        ({"_target_": "optuna.pruners.SuccessiveHalvingPruner"}, "_min_resource", 1),
        ({"_target_": "optuna.pruners.HyperbandPruner", "max_resource": 4}, "_max_resource", 4),
    ],
)
def test_a_worker_that_starts_later_finds_the_same_resource(config, attribute, resource):
    given = attempts((), (), ())
    for trial, order, last in zip(given, (3, 1, 2), (400, 8, 500), strict=True):
        trial.state, trial.values = TrialState.COMPLETE, [1.0]
        trial.system_attrs = {COMPLETION: order}
        trial.intermediate_values = {last: 1.0}
    assert getattr(build_pruner(config, given), attribute) == resource


def test_interrupted_trials_resume_before_waiting_trials_start():
    order = []

    def task(cfg: Any) -> float:
        order.append(int(cfg.x))
        if len(order) == 1:
            raise TrialInterrupted
        return 0.0

    multirun(task, "hydra.sweeper.enqueue=[{x: 1}, {x: 2}, {x: 3}]", "hydra.sweeper.n_trials=3")
    assert order == [1, 1, 2, 3]
