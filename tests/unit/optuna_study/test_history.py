"""What is kept from read to read equals what all trials give, whatever happened in between."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from hydra_plugins.optuna_study._budget import (
    COMPLETION,
    FIRST_ATTEMPT,
    INTERRUPTED,
    OWNER,
    PAUSED,
    RETRY_HISTORY,
    Budget,
    Counts,
    best_trial,
    budget_used,
    continued_attempts,
    count_trials,
    finished_since_best,
    first_number,
    is_interrupted,
    is_paused,
    merge_attempts,
    next_completion,
    number_without_retries,
    startable_trials,
    was_paused,
)
from hydra_plugins.optuna_study._history._ended_lines import EndedLines
from hydra_plugins.optuna_study._history._merged import MergedAttempts
from hydra_plugins.optuna_study._history._tally import Tally
from hydra_plugins.optuna_study._schedulers._pausing import Curves, curves_of
from hydra_plugins.optuna_study._schedulers._reopening import next_attempt

BUDGETS = [Budget(n_trials=n, failures_use_budget=use) for n in (1, 4, 9) for use in (False, True)]


class History:
    """The trials of a study, of which each change makes a new object, as a storage does."""

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []

    def add(self, **fields: Any) -> None:
        trial = create_trial(state=TrialState.WAITING, **fields)
        trial.number = trial._trial_id = len(self.trials)
        self.trials.append(trial)

    def change(self, number: int, state: TrialState, values: list[float] | None = None, **attrs: Any) -> None:
        changed = copy.copy(self.trials[number])
        changed.state, changed.values = state, values
        changed.system_attrs = {**changed.system_attrs, **attrs}
        self.trials[number] = changed

    def of_state(self, state: TrialState) -> list[int]:
        return [trial.number for trial in self.trials if trial.state == state]


def happen(history: History, draw: Callable[[int], int]) -> None:
    """One event of a study: `draw(n)` chooses one of n."""
    running, waiting = history.of_state(TrialState.RUNNING), history.of_state(TrialState.WAITING)
    orphans = [trial for trial in history.trials if is_interrupted(trial)]
    paused_at_the_end = [trial for trial in history.trials if was_paused(trial)]
    event = draw(9)
    if event == 8 and paused_at_the_end:
        again = next_attempt(paused_at_the_end[draw(len(paused_at_the_end))])
        history.add(system_attrs={**again.system_attrs, PAUSED: {"step": 1}}, intermediate_values={1: 1.0})
    elif event == 0 and orphans:  # also twice, as by two processes without a lock
        last = orphans[draw(len(orphans))]
        past = [*last.system_attrs.get(RETRY_HISTORY, ()), last.number]
        history.add(
            intermediate_values=last.intermediate_values,
            system_attrs={RETRY_HISTORY: past, FIRST_ATTEMPT: first_number(last)},
        )
    elif event <= 1:
        history.add(intermediate_values={0: float(draw(5))} if draw(2) else {})
    elif event == 2 and waiting:
        launch = {"launch": ("now", "before")[draw(2)]}
        history.change(waiting[draw(len(waiting))], TrialState.RUNNING, **{OWNER: launch, PAUSED: None})
    elif running:
        number, order = running[draw(len(running))], {COMPLETION: next_completion(history.trials)}
        order = order if draw(4) else {}  # as in studies from before it existed
        if event == 3:
            history.change(number, TrialState.WAITING, **{PAUSED: {"step": draw(3)}})
        elif event == 4:
            history.change(number, TrialState.RUNNING, **order)  # and its process dies before it can end the trial
        elif event == 5:
            note = {"reason": "its worker died", "counted": bool(draw(2)), "final": not draw(4)}
            history.change(number, TrialState.FAIL, **{INTERRUPTED: note})
        elif event == 6:
            paused = {PAUSED: {"step": 1}} if draw(2) else {}
            history.change(number, (TrialState.PRUNED, TrialState.FAIL)[draw(2)], **order, **paused)
        else:
            infeasible = {"constraints": [1.0]} if not draw(5) else {}
            history.change(number, TrialState.COMPLETE, [float(draw(4))], **order, **infeasible)


def assert_equal(tally: Tally, trials: list[FrozenTrial], maximize: bool) -> None:
    assert tally.counts() == count_trials(trials, "now")
    assert tally.next_completion() == next_completion(trials)
    assert tally.best == best_trial(trials, maximize)
    assert tally.finished_since_best() == finished_since_best(trials, maximize)
    for budget in BUDGETS:
        assert tally.budget_used(budget) == budget_used(trials, budget)
        assert tally.startable(budget) == startable_trials(trials, budget)
    for trial in trials:
        assert tally.number_without_retries(trial) == number_without_retries(trial, trials)
    assert tally.running() == [trial for trial in trials if trial.state == TrialState.RUNNING]
    assert tally.paused() == [trial for trial in trials if is_paused(trial)]
    continued = continued_attempts(trials)
    assert tally.orphans() == [trial for trial in trials if is_interrupted(trial) and trial.number not in continued]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans())
def test_following_a_study_equals_counting_all_its_trials(data, maximize):
    tally, merged, curves = Tally("now", maximize), MergedAttempts(), Curves(maximize)
    history = History()

    def draw(choices: int) -> int:
        return data.draw(st.integers(0, choices - 1))

    for _ in range(data.draw(st.integers(1, 12))):  # reads, with events in between
        for _ in range(data.draw(st.integers(0, 12))):
            happen(history, draw)
        read = history.trials.copy()
        if read and not draw(6):  # one that a reader does not see yet
            del read[draw(len(read))]
        tally.update(read)
        assert_equal(tally, read, maximize)
        assert merged(read) == merge_attempts(read)
        assert curves(read) == curves_of(read, maximize)


def test_random_histories_contain_everything_that_may_happen():
    """The events above do reach each state, so that the equality means something."""
    import random

    chance, history, seen = random.Random(0), History(), set()
    for _ in range(600):
        happen(history, chance.randrange)
        seen |= {name for name, number in vars(count_trials(history.trials, "now")).items() if number}
    assert seen == set(Counts.__dataclass_fields__)
    assert any(first_number(trial) != trial.number for trial in history.trials)
    continued = continued_attempts(history.trials)
    assert any(was_paused(trial) and trial.number in continued for trial in history.trials)
    assert len({trial.number for trial in merge_attempts(history.trials)}) > 20


@pytest.mark.parametrize("interrupted_at", range(5))
def test_an_update_that_a_signal_interrupts_loses_nothing(interrupted_at):
    history = History()
    for _ in range(4):
        history.add()
    tally = Tally("now")
    tally.update(history.trials)
    for number in range(3):
        history.change(number, TrialState.COMPLETE, [1.0], **{COMPLETION: number + 1})
    history.add()

    class Signal(BaseException):
        pass

    looked = iter(range(interrupted_at))
    look = tally._see

    def see(trial: FrozenTrial) -> None:
        look(trial)
        if next(looked, None) is None:
            raise Signal

    tally._see = see  # type: ignore[method-assign]
    if interrupted_at < 4:
        with pytest.raises(Signal):
            tally.update(history.trials)
    tally._see = look  # type: ignore[method-assign]
    tally.update(history.trials)
    assert_equal(tally, history.trials, maximize=False)


def test_ended_and_waiting_trials_are_looked_at_once():
    history = History()
    for number in range(50):
        history.add()
        history.change(number, TrialState.COMPLETE, [1.0])
    history.add()
    history.change(50, TrialState.RUNNING)
    history.add()
    tally, seen = Tally("now"), []
    look = tally._see
    tally._see = lambda trial: (seen.append(trial.number), look(trial))[1]  # type: ignore[method-assign]
    tally.update(history.trials)
    tally.update(history.trials)
    tally.update(history.trials)
    assert seen == [*range(52), 50, 50]


def test_each_ended_trial_gets_one_line_with_the_study_as_it_was_then(capsys):
    history = History()
    for number, value in enumerate([3.0, 2.0, 5.0, 1.0, 4.0]):
        history.add()
        if number < 2:
            history.change(number, TrialState.COMPLETE, [value], **{COMPLETION: number + 1})
    lines = EndedLines(history.trials, ["minimize"], 5)
    lines(history.trials)
    assert capsys.readouterr().out == ""  # those that had ended before are not printed
    history.change(3, TrialState.COMPLETE, [1.0], **{COMPLETION: 3})
    history.change(2, TrialState.COMPLETE, [5.0], **{COMPLETION: 4})
    history.change(4, TrialState.FAIL, **{INTERRUPTED: {"reason": "stopped", "counted": False, "final": False}})
    lines(history.trials)
    lines(history.trials)
    printed = [line.partition(" | ")[0].split() for line in capsys.readouterr().out.splitlines()]
    assert [words[:3] for words in printed] == [
        ["trial", "4", "interrupted:"],  # without a counter, as the process that ended it may have died
        ["trial", "3", "complete"],
        ["trial", "2", "complete"],
    ]
    history.add(system_attrs={RETRY_HISTORY: [4], FIRST_ATTEMPT: 4})
    history.change(5, TrialState.COMPLETE, [0.5], **{COMPLETION: 5})
    lines(history.trials)
    assert capsys.readouterr().out.strip().endswith("best 0.5 (trial 4) | 5/5 finished")
    # Which the sweep pruned at its end, and a larger one continues.
    before = History()
    before.add()
    before.change(0, TrialState.PRUNED, **{PAUSED: {"step": 1}, COMPLETION: 1})
    before.add(system_attrs={RETRY_HISTORY: [0], FIRST_ATTEMPT: 0})
    lines = EndedLines(before.trials, ["minimize"], 5)
    before.change(1, TrialState.COMPLETE, [0.5], **{COMPLETION: 2})
    lines(before.trials)
    assert "| 1/5" in capsys.readouterr().out
