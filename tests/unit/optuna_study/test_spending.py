"""`hydra.sweeper.budget`: seconds or epochs over all workers, within which the best trials are trained to their end."""

import json
from pathlib import Path

import pytest

from hydra_plugins.optuna_study import (
    Curve,
    StudyError,
    TrialPaused,
    TrialPruned,
    current_trial,
    study_status,
)
from hydra_plugins.optuna_study._schedulers._spending import Ledger, Limit

from .sweeping import load, run

EPOCHS = 9
PROMOTION = (
    "hydra/sweeper/scheduler=promotion", "hydra.sweeper.scheduler.min_resource=1",
    "hydra.sweeper.scheduler.reduction_factor=3", "hydra.sweeper.direction=maximize",
)  # fmt: skip
ONLY_BUDGET = (*PROMOTION, "hydra.sweeper.n_trials=null")


# ---- the text


@pytest.mark.parametrize(
    ("text", "amount", "in_epochs"),
    [("3600s", 3600, False), ("90min", 5400, False), ("1.5 h", 5400, False), ("500 epochs", 500, True)],
)
def test_a_budget_is_a_number_with_its_unit(text, amount, in_epochs):
    limit = Limit.parse(text)
    assert (limit.amount, limit.in_epochs) == (amount, in_epochs)


@pytest.mark.parametrize("text", ["3600", "-1h", "0s", "2 days", "h", "nan s", "1.5 epochs"])
def test_anything_else_is_refused_before_the_study_is_opened(sweep, text):
    with pytest.raises(StudyError, match="hydra.sweeper.budget") as caught:
        sweep(f"hydra.sweeper.budget='{text}'")
    assert "\n" not in str(caught.value)
    assert not Path("study.db").exists()


def test_without_a_budget_the_number_of_trials_must_be_given(sweep):
    with pytest.raises(StudyError, match="set one"):
        sweep("hydra.sweeper.n_trials=null")


# ---- the rule


def curve(number, *values, state="paused", price=1.0, length=EPOCHS):
    seconds = {step: step * price for step in range(1, len(values) + 1)}
    return Curve(number, state, dict(enumerate(values, start=1)), seconds=seconds, max_resource=length)


def ledger(amount, *curves, can_pause=True):
    in_flight = [curve.number for curve in curves if curve.state == "running"]
    return Ledger(Limit.parse(amount), curves, in_flight, can_pause=can_pause)


def test_the_rest_of_the_best_trial_is_reserved():
    best, other = curve(0, 0.9), curve(1, 0.5)
    # 2 are spent and each of them needs 8.
    assert ledger("18 epochs", best, other).may_continue(1)
    assert not ledger("17 epochs", best, other).may_continue(1)
    assert ledger("10 epochs", best, other).may_continue(0)
    assert not ledger("9 epochs", best, other).may_continue(0)


def test_a_trial_that_could_not_be_trained_to_its_end_does_not_start():
    done = curve(0, *[0.9] * EPOCHS, state="complete")
    assert ledger("18 epochs", done).may_start()
    assert not ledger("17 epochs", done).may_start()


def test_trials_in_flight_keep_their_next_step():
    best, running, third = curve(0, 0.9), curve(1, 0.5, state="running"), curve(2, 0.4)
    assert ledger("20 epochs", best, running, third).may_continue(2)
    assert not ledger("19 epochs", best, running, third).may_continue(2)


def test_a_better_trial_that_does_not_fit_beside_one_that_went_further_does_not_take_its_place():
    nearly, late = curve(0, *[0.8] * 7), curve(1, 0.9)
    both, one = ledger("18 epochs", nearly, late), ledger("17 epochs", nearly, late)
    assert both.may_continue(0)
    assert both.may_continue(1)
    assert one.may_continue(0)
    assert not one.may_continue(1)


def test_trials_are_compared_at_the_step_that_both_have_reached():
    done = curve(0, *[0.1 * step for step in range(1, EPOCHS + 1)], state="complete")
    promising, worse = curve(1, 0.2), curve(2, 0.1)
    account = ledger("19 epochs", done, promising, worse)
    assert account.may_continue(1)
    assert not account.may_continue(2)
    assert not account.may_start()
    without = ledger("19 epochs", done, worse)
    assert without.may_start()


def test_prices_are_measured_in_seconds():
    cheap, dear = curve(0, 0.9, price=1.0), curve(1, 0.8, price=10.0)
    # 11 s are spent, the best trial needs 8 s and the other one 80 s.
    assert not ledger("98s", cheap, dear).may_continue(1)
    assert ledger("99s", cheap, dear).may_continue(1)
    assert ledger("19s", cheap, dear).may_continue(0)


def test_without_pauses_a_trial_starts_if_all_are_expected_to_end_within_the_budget():
    done, running = curve(0, *[0.9] * EPOCHS, state="complete"), curve(1, 0.5, state="running")
    assert ledger("27 epochs", done, running, can_pause=False).may_start()
    assert not ledger("26 epochs", done, running, can_pause=False).may_start()


# ---- sweeps


def trained(ran, *, says_length=True, pauses=True):
    """A task with a checkpoint: its value at each step is x * step, and `ran` gets each step that it computes."""

    def task(cfg):
        trial = current_trial()
        file = Path(trial.directory) / "checkpoint.json"
        done = json.loads(file.read_text()) if file.exists() else 0
        if says_length:
            trial.set_max_resource(EPOCHS)
        for step in range(done + 1, EPOCHS + 1):
            ran.append((trial.number, step))
            trial.report(cfg.x * step, step)
            file.write_text(str(step))
            if step < EPOCHS and pauses and trial.should_pause():
                raise TrialPaused
            if step < EPOCHS and trial.should_prune():
                raise TrialPruned
        return cfg.x * EPOCHS

    return task


def is_best_complete(study):
    return max(study.trials, key=lambda trial: trial.reported[1]).state == "complete"


@pytest.mark.parametrize("epochs", [9, 30, 61])
@pytest.mark.parametrize("pauses", [True, False])
def test_a_budget_of_epochs_is_never_exceeded_and_the_best_trial_is_complete(sweep_task, epochs, pauses, capsys):
    ran = []
    study = sweep_task(trained(ran, pauses=pauses), *ONLY_BUDGET, f"hydra.sweeper.budget='{epochs} epochs'")
    assert len(ran) == len(set(ran)) <= epochs
    assert len(ran) > epochs - EPOCHS
    assert is_best_complete(study)
    assert (study.counts.paused, study.counts.running, study.counts.waiting) == (0, 0, 0)
    assert f"stopped: {len(ran)} epochs of the budget of {epochs} epochs are spent" in capsys.readouterr().out
    assert study.spent == f"{len(ran)} epochs of {epochs} epochs"


def test_without_a_scheduler_all_trials_end_within_the_budget(sweep_task):
    ran = []
    study = sweep_task(
        trained(ran), "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=null",
        "hydra.sweeper.budget='30 epochs'",
    )  # fmt: skip
    assert study.counts.complete == 3
    assert len(ran) == 27


def test_the_number_of_trials_ends_a_sweep_before_its_budget(sweep_task):
    ran = []
    study = sweep_task(trained(ran), *PROMOTION, "hydra.sweeper.n_trials=4", "hydra.sweeper.budget='1000 epochs'")
    assert study.counts.finished == 4


def test_a_task_that_does_not_say_its_length_shows_it_by_its_first_trial(sweep_task):
    ran = []
    study = sweep_task(trained(ran, says_length=False), *ONLY_BUDGET, "hydra.sweeper.budget='30 epochs'")
    assert len(ran) <= 30
    assert study.trials[0].state == "complete"
    assert is_best_complete(study)


def test_enqueued_configurations_do_not_start_beyond_the_budget_and_wait_for_a_larger_one(sweep_task):
    enqueued = ",".join(f"{{x: {x}, y: 0}}" for x in range(5))
    command = (
        "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=null", f"hydra.sweeper.enqueue=[{enqueued}]",
    )  # fmt: skip
    study = sweep_task(trained([]), *command, "hydra.sweeper.budget='20 epochs'")
    assert (study.counts.complete, study.counts.waiting) == (2, 3)
    study = sweep_task(trained([]), *command, "hydra.sweeper.budget='45 epochs'")
    assert (study.counts.complete, study.counts.waiting) == (5, 0)
    assert [trial.params["x"] for trial in study.trials] == [0, 1, 2, 3, 4]


def test_the_same_command_on_a_spent_budget_trains_nothing(sweep_task):
    ran = []
    command = (*ONLY_BUDGET, "hydra.sweeper.budget='30 epochs'")
    sweep_task(trained(ran), *command)
    before = len(ran)
    sweep_task(trained(ran), *command)
    assert len(ran) == before


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (("hydra.sweeper.budget='30 epochs'",), ("hydra.sweeper.budget='90 epochs'",)),
        (("hydra.sweeper.n_trials=9",), ("hydra.sweeper.n_trials=27",)),
        (("hydra.sweeper.n_trials=9",), ("hydra.sweeper.budget='90 epochs'",)),
    ],
)
def test_a_larger_budget_continues_the_trials_that_the_end_of_a_smaller_one_pruned(sweep_task, small, large):
    ran = []
    command = (*ONLY_BUDGET, "hydra.sweeper.enqueue=[{x: 4.99}, {x: 4.98}, {x: 4.97}]")  # what is worth continuing
    first = sweep_task(trained(ran), *command, *small)
    ended = {trial.number: trial for trial in first.trials}
    study = sweep_task(trained(ran), *command, *large)
    assert len(ran) == len(set(ran))  # from their checkpoints
    assert len(ran) <= 90 or "n_trials" in large[0]
    further = [trial for trial in study.trials if trial.number in ended and trial.attempt]
    assert {trial.number for trial in further} == {number for number, t in ended.items() if t.state == "pruned"}
    assert any(len(trial.reported) > len(ended[trial.number].reported) for trial in further)
    # A trial is one trial, however often it was pruned.
    assert len({trial.number for trial in study.trials}) == len(study.trials) == study.counts.finished
    assert (study.counts.paused, study.counts.waiting) == (0, 0)
    if "n_trials" in large[0]:
        assert study.counts.finished == 27
    # The same command again changes nothing.
    before = len(load().get_trials(deepcopy=False))
    sweep_task(trained(ran), *command, *large)
    assert len(load().get_trials(deepcopy=False)) == before


def test_a_budget_that_does_not_suffice_for_one_trial_says_so(sweep_task, capsys):
    ran = []
    sweep_task(trained(ran), *ONLY_BUDGET, "hydra.sweeper.budget='5 epochs'")
    assert len(ran) <= 5
    assert "does not suffice to train one trial to its full length" in capsys.readouterr().out


def test_a_task_that_reports_nothing_cannot_be_counted_and_ends(sweep_task, capsys):
    study = sweep_task(lambda cfg: cfg.x, "hydra.sweeper.n_trials=null", "hydra.sweeper.budget=1h")
    assert study.counts.complete == 1
    assert "cannot be counted, because the task does not report its epochs" in capsys.readouterr().out


def test_what_killed_and_failed_attempts_reported_counts(sweep_task):
    ran, failed, stopped = [], [], []
    task = trained(ran)

    def dies(cfg):
        if len(ran) >= 5 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        if len(ran) >= 12 and not failed and current_trial().last_step is None:
            failed.append(True)
            current_trial().report(0.0, 1)
            raise RuntimeError
        return task(cfg)

    command = (*ONLY_BUDGET, "hydra.sweeper.budget='40 epochs'")
    with pytest.raises(SystemExit):
        sweep_task(dies, *command)
    study = sweep_task(dies, *command)
    assert study.counts.failed == 1
    reported = {(trial.number, step) for trial in study.trials for step in trial.reported}
    assert len(reported) == len(ran) + 1 <= 40
    assert is_best_complete(study)


def test_too_many_failures_of_those_that_ended_stop_a_sweep_without_a_number_of_trials(sweep_task):
    def fails(_cfg):
        raise RuntimeError

    with pytest.raises(SystemExit):
        sweep_task(fails, *ONLY_BUDGET, "hydra.sweeper.budget='40 epochs'")
    assert len(load().get_trials(deepcopy=False)) == 3


@pytest.mark.integration
def test_two_processes_together_do_not_exceed_the_budget_also_after_kill_9(tmp_path):
    run(
        "mode=pauses", f"steps={EPOCHS}", *ONLY_BUDGET, "hydra.sweeper.budget='40 epochs'", "hydra/launcher=joblib",
        "hydra.sweeper.enqueue=[{x: 5, y: 5}]",  # the best one, so that it pauses and continues
        "hydra.sweeper.n_jobs=2", "hydra.sweeper.heartbeat=0.5", f"hydra.sweep.dir={tmp_path}/sweep",
    )  # fmt: skip
    assert Path("signalled").exists()
    study = study_status("sqlite:///study.db", "toy")
    steps = [line for file in tmp_path.glob("sweep/*/steps") for line in file.read_text().splitlines()]
    assert 40 - EPOCHS < len(steps) <= 40
    assert study.counts.complete > 0
