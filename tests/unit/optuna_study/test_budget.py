"""The budget's rule on lists of trials, with no storage and no time."""

import datetime
import random

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hydra_plugins.optuna_study._attrs import COMPLETION, INTERRUPTED, OWNER, RETRY_HISTORY
from hydra_plugins.optuna_study._budget import (
    Rules,
    attempt_of,
    best_of,
    count,
    counted_attempts,
    finished_since_best,
    may_start,
    next_completion,
    why_stop,
)

W, R, C, P, F = TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def trials(*given: TrialState | str) -> list[FrozenTrial]:
    """Trials numbered from 0; "I" is an attempt that was interrupted and is to be continued."""
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
        ([C, "I", R, W, W], [3]),  # an interrupted attempt gives its place up
        ([C, F, R, W], [3]),  # and so does a failed trial
        (["I", "I", "I", W], [3]),
    ],
)
def test_the_first_n_places_may_start(given, startable):
    assert [trial.number for trial in may_start(trials(*given), Rules(n_trials=3))] == startable


def test_where_values_can_be_listed_a_failed_trial_takes_up_budget():
    assert may_start(trials(C, F, R, W), Rules(n_trials=3, failures_count=True)) == []


@pytest.mark.parametrize("seed", range(20))
def test_no_order_of_events_lets_one_trial_too_many_finish(seed):
    """Workers that see old lists create, start, finish, fail and lose trials at random."""
    chance, rules, now = random.Random(seed), Rules(n_trials=7), trials()
    seen = [list(now)]
    for _ in range(400):
        seen = seen[-4:]
        old = chance.choice(seen)  # what a worker read some time ago
        event = chance.randrange(4)
        running = [t for t in now if t.state == R]
        if event == 0 and len(now) < 60:
            now = [*now, _numbered(W, len(now))]
        elif event == 1:
            for trial in may_start(old, rules):
                if now[trial.number].state == W:
                    now = [_numbered(R, t.number) if t.number == trial.number else t for t in now]
                    break
        elif running:
            ended = chance.choice(running)
            state = chance.choice([C, C, P, F])
            now = [_numbered(state, t.number) if t.number == ended.number else t for t in now]
        seen.append(list(now))
        assert count(now).finished <= rules.n_trials
    assert count(now).finished + count(now).running == rules.n_trials


def _numbered(state: TrialState, number: int) -> FrozenTrial:
    trial = create_trial(state=state, value=1.0 if state == C else None)
    trial.number = number
    return trial


def test_attempts_are_counted_over_all_that_died():
    given = trials("I", "I", R)
    given[1].system_attrs[RETRY_HISTORY] = [0]
    given[2].system_attrs[RETRY_HISTORY] = [0, 1]
    given[1].system_attrs[INTERRUPTED]["counted"] = False
    assert attempt_of(given[2]) == 2
    assert counted_attempts(given, given[2]) == 1


def test_failures_of_an_earlier_launch_do_not_stop_this_one():
    given = trials(F, F, C)
    given[0].system_attrs[OWNER] = {"launch": "before"}
    given[1].system_attrs[OWNER] = {"launch": "now"}
    assert count(given, "now").failed == 1
    assert why_stop(given, Rules(n_trials=10, max_failures=2), "now", False) is None
    assert why_stop(given, Rules(n_trials=10, max_failures=1), "now", False) == "1 trial failed"


@pytest.mark.parametrize(
    ("given", "stops"),
    [([F, F], False), ([F, C], False), ([F, F, C], True), ([F, C, F], True), ([F, C, C], False), ([C, C, F, F], True)],
)
def test_a_share_of_failures_is_judged_from_the_third_trial_on(given, stops):
    rules = Rules(n_trials=5, max_failures=2, failures_judged_from=3)
    mine = trials(*given)
    for trial in mine:
        trial.system_attrs[OWNER] = {"launch": "now"}
    assert (why_stop(mine, rules, "now", False) is not None) == stops


def test_patience_counts_finished_trials_after_the_best():
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
    assert best_of(given, maximize=False) is given[0]
    assert finished_since_best(given, maximize=False) == 3


def ended(how: dict[int, tuple[float | None, int | None]]) -> list[FrozenTrial]:
    """Complete trials by number with their value (None: pruned) and their place in the order of ends."""
    made = trials(*(P if value is None else C for value, _ in how.values()))
    for trial, (value, place) in zip(made, how.values(), strict=True):
        trial.values = None if value is None else [value]
        trial.system_attrs = {} if place is None else {COMPLETION: place}
    return made
