"""The budget's rule on lists of trials, with no storage and no time."""

import datetime
import random

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hydra_plugins.optuna_study._budget import (
    COMPLETION,
    INTERRUPTED,
    OWNER,
    RETRY_HISTORY,
    Budget,
    attempt_of,
    best_trial,
    budget_used,
    count_trials,
    finished_since_best,
    next_completion,
    startable_trials,
    stop_reason,
    worker_deaths,
)

W, R, C, P, F = TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def trials(*given: TrialState | str) -> list[FrozenTrial]:
    """Trials numbered from 0; "I" is an interrupted attempt."""
    made = []
    for number, state in enumerate(given):
        attrs = {INTERRUPTED: {"reason": "died", "counted": True, "final": False}} if state == "I" else {}
        trial = create_trial(state=F if state == "I" else state, value=1.0 if state == C else None, system_attrs=attrs)
        trial.number = number
        made.append(trial)
    return made


@pytest.mark.parametrize(
    ("given", "startable"),
    [
        ([W, W, W], [0, 1, 2]),
        ([W, W, W, W], [0, 1, 2]),
        ([C, R, W, W], [2]),
        ([C, R, P, W], []),
        ([C, "I", R, W, W], []),  # nobody takes the place of an interrupted trial before it is requeued
        ([C, F, R, W], [3]),  # a failed trial uses no budget
        (["I", "I", "I", W], []),
    ],
)
def test_trials_within_the_budget_may_start(given, startable):
    assert [trial.number for trial in startable_trials(trials(*given), Budget(n_trials=3))] == startable


def test_an_interrupted_attempt_uses_no_budget_once_another_attempt_continues_it():
    given = trials(C, "I", R, W, W)
    given[3].system_attrs[RETRY_HISTORY] = [1]
    assert [trial.number for trial in startable_trials(given, Budget(n_trials=3))] == [3]
    assert budget_used(given, Budget(n_trials=3)) == 4  # the last one waits beyond the budget


def test_a_failed_trial_uses_budget_if_values_can_be_listed():
    assert startable_trials(trials(C, F, R, W), Budget(n_trials=3, failures_use_budget=True)) == []


@pytest.mark.parametrize("seed", range(20))
def test_no_order_of_events_lets_a_trial_beyond_the_budget_finish(seed):
    """Workers that see old lists create, start, finish, fail and lose trials at random."""
    chance, budget, now = random.Random(seed), Budget(n_trials=7), trials()
    seen = [list(now)]
    for _ in range(400):
        seen = seen[-4:]
        old = chance.choice(seen)  # what a worker read some time ago
        event = chance.randrange(4)
        running = [t for t in now if t.state == R]
        if event == 0 and len(now) < 60:
            now = [*now, _numbered(W, len(now))]
        elif event == 1:
            for trial in startable_trials(old, budget):
                if now[trial.number].state == W:
                    now = [_numbered(R, t.number) if t.number == trial.number else t for t in now]
                    break
        elif running:
            ended = chance.choice(running)
            state = chance.choice([C, C, P, F])
            now = [_numbered(state, t.number) if t.number == ended.number else t for t in now]
        seen.append(list(now))
        assert count_trials(now).finished <= budget.n_trials
    assert count_trials(now).finished + count_trials(now).running == budget.n_trials


def _numbered(state: TrialState, number: int) -> FrozenTrial:
    trial = create_trial(state=state, value=1.0 if state == C else None)
    trial.number = number
    return trial


def test_the_worker_deaths_of_all_attempts_count():
    given = trials("I", "I", R)
    given[1].system_attrs[RETRY_HISTORY] = [0]
    given[2].system_attrs[RETRY_HISTORY] = [0, 1]
    given[1].system_attrs[INTERRUPTED]["counted"] = False
    assert attempt_of(given[2]) == 2
    assert worker_deaths(given, given[2]) == 1


def test_failures_of_an_earlier_launch_do_not_stop_this_one():
    given = trials(F, F, C)
    given[0].system_attrs[OWNER] = {"launch": "before"}
    given[1].system_attrs[OWNER] = {"launch": "now"}
    assert count_trials(given, "now").failed == 1
    assert stop_reason(given, Budget(n_trials=10, max_failures=2), "now", False) is None
    assert stop_reason(given, Budget(n_trials=10, max_failures=1), "now", False) == "1 trial failed"


@pytest.mark.parametrize(
    ("given", "stops"),
    [([F, F], False), ([F, C], False), ([F, F, C], True), ([F, C, F], True), ([F, C, C], False), ([C, C, F, F], True)],
)
def test_the_share_of_failures_counts_from_the_third_trial_on(given, stops):
    budget = Budget(n_trials=5, max_failures=2, min_trials_for_failures=3)
    mine = trials(*given)
    for trial in mine:
        trial.system_attrs[OWNER] = {"launch": "now"}
    assert (stop_reason(mine, budget, "now", False) is not None) == stops


def test_early_stopping_counts_finished_trials_after_the_best():
    given = ended({0: (3.0, 1), 1: (1.0, 2), 2: (None, 3)})
    assert finished_since_best(given, maximize=False) == 1
    assert finished_since_best(given, maximize=True) == 2


def test_trials_end_in_the_order_of_the_completion_counter_whatever_clocks_say():
    given = ended({0: (3.0, 3), 1: (1.0, 1), 2: (2.0, 4), 3: (None, 2)})
    for trial in given:
        trial.datetime_complete = datetime.datetime(2026, 1, 1, hour=10 - trial.number)  # noqa: DTZ001
    assert finished_since_best(given, maximize=False) == 3
    assert finished_since_best(given, maximize=True) == 1


def test_trials_without_a_completion_counter_come_first_by_number():
    given = ended({0: (3.0, None), 1: (1.0, None), 2: (2.0, None), 3: (2.0, 1), 4: (2.0, 2)})
    assert finished_since_best(given, maximize=False) == 3
    assert next_completion(given) == 3
    assert next_completion(given[:3]) == 1


def test_reaching_the_best_value_again_is_no_better_value():
    given = ended({0: (1.0, 4), 1: (1.0, 1), 2: (2.0, 2), 3: (2.0, 3)})
    assert best_trial(given, maximize=False) is given[0]
    assert finished_since_best(given, maximize=False) == 3


def ended(how: dict[int, tuple[float | None, int | None]]) -> list[FrozenTrial]:
    """Complete trials by number with their value (None: pruned) and their completion counter."""
    made = trials(*(P if value is None else C for value, _ in how.values()))
    for trial, (value, order) in zip(made, how.values(), strict=True):
        trial.values = None if value is None else [value]
        trial.system_attrs = {} if order is None else {COMPLETION: order}
    return made
