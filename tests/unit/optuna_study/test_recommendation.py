"""The recommended trial: lucky values lose against values that similar configurations confirm."""

import math
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from hydra_plugins.optuna_study import StudyStatus, study_status
from hydra_plugins.optuna_study._monitoring import _recommendation
from hydra_plugins.optuna_study._monitoring._lines import summary
from hydra_plugins.optuna_study._monitoring._recommendation import LEAST
from hydra_plugins.optuna_study._schedulers import Curve

LR = FloatDistribution(1e-4, 1e-1, log=True)


def trial(number: int, value: float, **params: float | str) -> Curve:
    kinds = {"lr": LR, "optimizer": CategoricalDistribution(("adamw", "sgd"))}
    return Curve(number, "complete", {1: value}, params, distributions={name: kinds[name] for name in params})


def recommend(trials: list[Curve]) -> int | None:
    """Of complete trials without other reports than their final value."""
    return _recommendation.recommend(trials, {each.number: each.values[1] for each in trials})


def plateau_and_cliff() -> list[Curve]:
    """Around lr 1e-3 all trials reach 0.93; around 1e-2 they diverge or are lucky."""
    rng = np.random.default_rng(0)
    good = [trial(i, 0.93 + 0.002 * rng.normal(), lr=10 ** rng.uniform(-3.3, -2.7)) for i in range(10)]
    unstable = [0.80, 0.945, 0.84, 0.78, 0.86, 0.82]
    return good + [trial(10 + i, value, lr=10 ** rng.uniform(-1.9, -1.6)) for i, value in enumerate(unstable)]


def test_a_lucky_value_between_failures_is_not_recommended() -> None:
    trials = plateau_and_cliff()
    assert max(trials, key=lambda each: each.values[1]).number == 11
    chosen = recommend(trials)
    assert chosen is not None
    assert chosen < 10


def test_the_order_of_the_trials_does_not_matter() -> None:
    trials = plateau_and_cliff()
    assert recommend(trials[::-1]) == recommend(trials)


def test_the_best_value_is_recommended_where_values_are_smooth() -> None:
    trials = [trial(i, 0.9 - 0.05 * (x + 2) ** 2, lr=10**x) for i, x in enumerate(np.linspace(-4, -1, 13))]
    best = max(trials, key=lambda each: each.values[1])
    chosen = recommend(trials)
    assert chosen is not None
    assert abs(chosen - best.number) <= 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_do_not_count(value: float) -> None:
    trials = plateau_and_cliff()
    assert recommend([*trials, trial(99, value, lr=1e-3)]) == recommend(trials)
    assert recommend([trial(i, value, lr=1e-3) for i in range(20)]) is None


def test_without_enough_different_trials_nothing_is_recommended() -> None:
    assert recommend(plateau_and_cliff()[: LEAST - 1]) is None
    assert recommend([trial(i, 0.5, lr=1e-3) for i in range(20)]) is None
    assert recommend([trial(i, 0.5 + i / 100) for i in range(20)]) is None


def test_parameters_that_some_trials_lack_and_words_are_understood() -> None:
    trials = [trial(i, 0.8 + i / 1000, optimizer="sgd") for i in range(10)]
    trials += [trial(10 + i, 0.9 + i / 1000, optimizer="adamw", lr=10 ** (-4 + i / 5)) for i in range(10)]
    chosen = recommend(trials)
    assert chosen is not None
    assert chosen >= 10


def test_losses_have_the_opposite_sign() -> None:
    trials = [trial(i, -each.values[1] * 3, **each.params) for i, each in enumerate(plateau_and_cliff())]
    lowest = max(trials, key=lambda each: each.values[1])
    chosen = recommend([*trials, trial(50, -0.01, lr=0.02)])
    assert lowest.number >= 10
    assert chosen is not None


def test_of_a_thousand_trials_the_best_ones_are_seen() -> None:
    rng = np.random.default_rng(1)
    trials = [trial(i, 0.5 + 0.001 * rng.normal(), lr=10 ** rng.uniform(-4, -2)) for i in range(1000)]
    trials += [trial(1000 + i, 0.9 + 0.001 * rng.normal(), lr=10 ** rng.uniform(-1.5, -1)) for i in range(20)]
    chosen = recommend(trials)
    assert chosen is not None
    assert chosen >= 1000


def stored(tmp_path, direction: str) -> StudyStatus:
    url, sign = f"sqlite:///{tmp_path}/study.db", 1 if direction == "maximize" else -1
    study = optuna.create_study(storage=url, study_name="s", direction=direction)
    for each in plateau_and_cliff():
        study.add_trial(create_trial(params=dict(each.params), distributions={"lr": LR}, value=sign * each.values[1]))
    study.add_trial(create_trial(state=TrialState.PRUNED, params={"lr": 1e-3}, distributions={"lr": LR}))
    return study_status(url, "s")


def curve(number: int, state: str, values: list[float], lr: float) -> Curve:
    reports = dict(enumerate(values, 1))
    return Curve(number, state, reports, {"lr": lr}, distributions={"lr": LR}, max_resource=3)


def test_paused_trials_count_with_their_reports_if_these_are_comparable() -> None:
    rng = np.random.default_rng(0)
    final = 0.93 + 0.002 * rng.normal(size=12)
    curves = [
        curve(i, "complete", [value - 0.2, value - 0.05, value], 10 ** rng.uniform(-3.3, -2.7))
        for i, value in enumerate(final)
    ]
    curves.append(curve(12, "complete", [0.74, 0.89, 0.94], 2e-2))
    finals = {each.number: each.values[3] for each in curves}
    similar = [curve(20 + i, "paused", [0.5, 0.55], 2e-2 * (1 + i / 20)) for i in range(6)]  # and much worse
    assert _recommendation.recommend(curves, finals) == 12
    assert _recommendation.recommend([*curves, *similar], finals) != 12
    # A task may report something else than what it returns.
    others = [replace(each, values={step: -value for step, value in each.values.items()}) for each in curves]
    assert _recommendation.recommend([*others, *similar], finals) == 12


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_status_of_a_study_has_it_in_both_directions(tmp_path, direction: str) -> None:
    status = stored(tmp_path, direction)
    assert status.best[0].number == 11
    assert status.winner == status.recommended
    assert status.recommended is not None
    assert status.recommended.number < 10
    assert status.recommendation is not None
    assert status.recommendation.startswith("trial 11 has the best value, ")


def test_it_stands_below_the_best_trials(tmp_path) -> None:
    from types import SimpleNamespace

    status = stored(tmp_path, "maximize")
    lines = summary(status, SimpleNamespace(counts=SimpleNamespace(**vars(status.counts)), stopped=None))
    where = next(
        i for i, line in enumerate(lines) if line.startswith("recommended, because trial 11 has the best value")
    )
    assert status.recommended is not None
    assert lines[where + 1].startswith(f"  trial {status.recommended.number}: 0.9")
