"""Schedulers: which trials pause, which continue, and what becomes of the rest."""

import json
import re
from pathlib import Path

import pytest

from hydra_plugins.optuna_study import (
    START,
    Curve,
    PromotionScheduler,
    StudyError,
    TrialPaused,
    TrialPruned,
    current_trial,
    study_status,
)
from hydra_plugins.optuna_study._schedulers._pausing import PausedLines

from .sweeping import load

STEPS = 9


def curve(number, *values, state="paused"):
    return Curve(number, state, dict(enumerate(values, start=1)))


def test_the_first_trials_pause_at_the_first_rung_and_the_best_third_continues():
    scheduler = PromotionScheduler(1, 3)
    lonely = curve(0, 0.5, state="running")
    assert scheduler.should_pause(lonely, [lonely])
    assert scheduler.choose([curve(0, 0.5)], may_start=True) == START
    three = [curve(0, 0.5), curve(1, 0.7), curve(2, 0.6)]
    assert scheduler.choose(three, may_start=True) == 1
    running = curve(3, 0.9, state="running")
    assert not scheduler.should_pause(running, [*three, running])  # it is promoted at once
    assert not scheduler.should_pause(curve(1, 0.7, 0.8, state="running"), three)  # two is no rung


def test_the_highest_rung_is_served_first_and_nobody_is_promoted_twice():
    high = [curve(0, 0.5, 0.6, 0.7), curve(1, 0.6, 0.7, 0.8), curve(2, 0.7, 0.8, 0.9)]
    low = [curve(number, 0.1) for number in range(3, 9)]
    assert PromotionScheduler(1, 3).choose([*high, *low], may_start=True) == 2
    promoted = [*high[:2], curve(2, 0.7, 0.8, 0.9, state="running"), *low]
    assert PromotionScheduler(1, 3).choose(promoted, may_start=True) == START


def test_at_the_end_the_best_paused_trial_goes_all_the_way():
    curves = [curve(0, 0.5), curve(1, 0.7)]
    assert PromotionScheduler(1, 3).choose(curves, may_start=False) == 1
    done = [curve(0, 0.5), curve(1, *[0.7] * STEPS, state="complete")]
    assert PromotionScheduler(1, 3).choose(done, may_start=False) is None
    better = [curve(0, 0.8), curve(1, *[0.7] * STEPS, state="complete")]
    assert PromotionScheduler(1, 3).choose(better, may_start=False) == 0


def test_nan_and_failed_trials_are_never_promoted():
    curves = [curve(0, float("nan")), curve(1, float("nan")), curve(2, 0.1), curve(3, 0.9, state="failed")]
    assert PromotionScheduler(1, 3).choose(curves, may_start=True) == 2


@pytest.mark.parametrize(("min_resource", "reduction_factor"), [(0, 3), (1, 1)])
def test_rungs_that_do_not_grow_are_refused(min_resource, reduction_factor):
    with pytest.raises(ValueError, match="at least"):
        PromotionScheduler(min_resource, reduction_factor)


def test_without_a_first_rung_a_trial_pauses_after_30_percent_of_its_steps():
    scheduler = PromotionScheduler()
    for length, first in ((2, 1), (10, 3), (100, 30)):
        pauses = [
            step
            for step in range(1, length + 1)
            if scheduler.should_pause(
                long := Curve(0, "running", dict.fromkeys(range(1, step + 1), 0.5), max_resource=length), [long]
            )
        ]
        assert pauses[0] == first
        assert pauses[-1] < length  # after its last step it is complete


def test_steps_may_be_more_than_reports():
    """A task that reports after steps 100, 200 and 300 makes three reports."""
    scheduler = PromotionScheduler(min_resource=100)
    for step, pauses in ((100, True), (200, True), (300, False)):
        reported = Curve(0, "running", dict.fromkeys(range(100, step + 1, 100), 0.5), max_resource=3)
        assert scheduler.should_pause(reported, [reported]) == pauses


def checkpointed(ran, to_report=lambda step: step):
    """A task with a checkpoint: its value at each step is x * step, and `ran` gets each step that it computes.

    `to_report` is the step that the task gives the report of its first, second, ... step.
    """

    def task(cfg):
        trial = current_trial()
        file = Path(trial.directory) / "checkpoint.json"
        done = json.loads(file.read_text()) if file.exists() else 0
        for step in range(done + 1, STEPS + 1):
            ran.append((trial.number, step))
            trial.report(cfg.x * step, to_report(step))
            file.write_text(str(step))
            if step < STEPS and trial.should_pause():
                raise TrialPaused
            if step < STEPS and trial.should_prune():
                raise TrialPruned
        return cfg.x * STEPS

    return task


PROMOTION = (
    "hydra/sweeper/scheduler=promotion", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=9",
    "hydra.sweeper.scheduler.min_resource=1", "hydra.sweeper.scheduler.reduction_factor=3",
)  # fmt: skip


@pytest.mark.parametrize("scheduler", ["promotion", "freeze_thaw"])
@pytest.mark.parametrize("to_report", [lambda step: step - 1, lambda step: 100 * step, lambda step: step**3 + 7])
def test_what_counts_is_the_number_of_reports_whatever_their_steps(sweep_task, scheduler, to_report):
    found = []
    for report in (lambda step: step, to_report):
        ran = []
        choice = PROMOTION if scheduler == "promotion" else ("hydra/sweeper/scheduler=freeze_thaw", *PROMOTION[1:3])
        task = checkpointed(ran, report)

        def with_length(cfg, task=task):
            current_trial().set_max_resource(STEPS)
            return task(cfg)

        url = f"sqlite:///study{len(found)}.db"
        sweep_task(with_length, *choice, f"hydra.sweeper.storage={url}", "hydra.sweeper.sampler.seed=1")
        trials = load(url=url).trials
        assert len(ran) == len(set(ran)) < 9 * STEPS
        found.append((ran, [trial.state for trial in trials]))
    # The decisions of freeze_thaw depend on measured seconds.
    assert found[0] == found[1] or scheduler == "freeze_thaw"


@pytest.mark.parametrize("storage", ["sqlite:///study.db", "journal://study.log", "null"])
def test_a_sweep_pauses_and_continues_and_ends_with_its_best_trial_complete(sweep_task, storage):
    ran = []
    study = sweep_task(checkpointed(ran), *PROMOTION, f"hydra.sweeper.storage={storage}")
    assert len(ran) == len(set(ran)) < 9 * STEPS  # no step is computed twice
    if study is None:
        return
    assert study.counts.finished == 9
    assert study.counts.paused == 0
    best = max(study.trials, key=lambda trial: trial.params["x"])
    assert best.state == "complete"
    assert study.best[0].number == best.number
    assert all(trial.values == (trial.reported[max(trial.reported)],) for trial in study.trials)


def test_a_task_that_cannot_pause_is_pruned_instead(sweep_task):
    def task(cfg):
        trial = current_trial()
        for step in range(1, STEPS + 1):
            trial.report(cfg.x * step, step)
            if step < STEPS and trial.should_prune():
                raise TrialPruned
        return cfg.x * STEPS

    study = sweep_task(task, *PROMOTION)
    assert {trial.state for trial in study.trials} == {"complete", "pruned"}
    assert {trial.attempt for trial in study.trials} == {0}


def test_a_paused_trial_of_an_interrupted_sweep_is_continued_by_the_same_command(sweep_task, capsys):
    ran = []
    task = checkpointed(ran)

    def stops(cfg):
        if len(ran) == 5:
            raise KeyboardInterrupt
        return task(cfg)

    with pytest.raises(SystemExit):
        sweep_task(stops, *PROMOTION)
    stored = load().get_trials(deepcopy=False)
    capsys.readouterr()
    lines = PausedLines([])
    lines(stored)
    lines(stored)  # says nothing twice
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == study_status("sqlite:///study.db", "toy").counts.paused > 0
    assert all(re.fullmatch(r"trial \d +paused +\S+ \| after step [139]", line) for line in printed)
    study = sweep_task(task, *PROMOTION)
    assert len(ran) == len(set(ran))
    assert study.counts.finished == 9


def test_a_larger_budget_starts_from_the_ended_study(sweep_task):
    ran = []
    sweep_task(checkpointed(ran), *PROMOTION)
    study = sweep_task(checkpointed(ran), *PROMOTION, "hydra.sweeper.n_trials=12")
    assert study.counts.finished == 12


def test_a_class_that_is_no_scheduler_is_refused(sweep_task):
    with pytest.raises(StudyError, match="scheduler"):
        sweep_task(checkpointed([]), *PROMOTION, "hydra.sweeper.scheduler._target_=pathlib.Path")
