"""`hydra.sweeper.stop_when=noise`: a study ends when what may still be gained is less than the noise hides."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from hydra_plugins.optuna_study import StudyError, TrialHandle, current_trial
from hydra_plugins.optuna_study._budget import NOISE, STANDARD_ERROR
from hydra_plugins.optuna_study._monitoring._recommendation import LEAST, expected_gain
from hydra_plugins.optuna_study._schedulers import Curve

from .sweeping import load

if TYPE_CHECKING:
    from collections.abc import Callable

STOP = ("hydra.sweeper.stop_when=noise", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=20")
SPACE = ("x=interval(0,1)", "y=interval(0,1)")


def quality(x: float, y: float) -> float:
    return 0.95 - 0.3 * (x - 0.6) ** 2 - 0.1 * (y - 0.3) ** 2


def task(error: float | None) -> Callable[[Any], float]:
    def run(cfg: Any) -> float:
        trial = current_trial()
        assert trial is not None
        if error is not None:
            trial.set_standard_error(error)
        return quality(float(cfg.x), float(cfg.y))

    return run


def curves(number: int, noise: float = 0.001, shift: float = 0.0) -> list[Curve]:
    rng, kinds = np.random.default_rng(0), {name: FloatDistribution(0, 1) for name in "xy"}
    found = []
    for i in range(number):
        x, y = rng.random(2)
        value = quality(x, y) + shift + noise * rng.standard_normal()
        found.append(Curve(i, "complete", {1: value}, {"x": x, "y": y}, distributions=kinds))
    return found


# ---- what may still be gained


def gain(trials: list[Curve]) -> float:
    found = expected_gain(trials, {each.number: each.values[1] for each in trials})
    assert found is not None
    return found


@pytest.mark.parametrize("shift", [0.0, -1.0, 7.0])  # accuracies, negative losses and any other value
def test_the_expected_gain_shrinks_with_the_number_of_trials_and_is_in_the_unit_of_the_values(shift: float) -> None:
    few, many = gain(curves(10, shift=shift)), gain(curves(60, shift=shift))
    assert 0 <= many < few < 0.1
    assert many < 0.005


def test_it_is_unknown_with_too_few_trials() -> None:
    trials = curves(LEAST - 1)
    assert expected_gain(trials, {each.number: each.values[1] for each in trials}) is None


# ---- in a sweep


def test_a_study_ends_where_the_noise_hides_what_is_left_and_says_so(
    sweep_task: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    study = sweep_task(task(0.5), *STOP, *SPACE)
    assert study.counts.finished == LEAST
    printed = capsys.readouterr().out
    assert "less than the standard error of its value, 0.5" in printed
    assert load()._storage.get_study_system_attrs(load()._study_id)[NOISE]["standard_error"] == 0.5
    # The same command has nothing to add; without the rule, the study goes on.
    assert sweep_task(task(0.5), *STOP, *SPACE).counts.finished == LEAST
    assert sweep_task(task(0.5), *STOP[1:], *SPACE).counts.finished == 20


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1), ("minimize", -1)])
def test_it_goes_on_while_more_may_be_gained_than_the_noise_hides(
    sweep_task: Callable[..., Any], direction: str, sign: int
) -> None:
    def precise(cfg: Any) -> float:
        return sign * task(1e-9)(cfg)

    study = sweep_task(precise, *STOP, *SPACE, f"hydra.sweeper.direction={direction}", "hydra.sweeper.n_trials=12")
    assert study.counts.finished == 12


def test_of_a_task_that_does_not_say_its_error_it_ends_nothing_and_says_so_once(
    sweep_task: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep_task(task(None), *STOP, *SPACE).counts.finished == 20
    assert capsys.readouterr().out.count("the task does not call trial.set_standard_error") == 1


def test_paused_trials_are_pruned_when_it_ends(sweep_task: Callable[..., Any]) -> None:
    def steps(cfg: Any) -> float:
        from hydra_plugins.optuna_study import TrialPaused

        trial = current_trial()
        assert trial is not None
        trial.set_max_resource(4)
        for step in range((trial.last_step or 0) + 1, 5):
            trial.report(quality(float(cfg.x), float(cfg.y)) - 0.1 / step, step)
            if step < 4 and trial.should_pause():
                raise TrialPaused
        return task(0.5)(cfg)

    study = sweep_task(steps, *STOP, *SPACE, "hydra/sweeper/scheduler=promotion", "hydra.sweeper.n_trials=60")
    assert study.counts.complete == LEAST
    assert (study.counts.paused, study.counts.running) == (0, 0)
    assert LEAST < study.counts.finished < 60


def test_a_negative_error_is_refused_and_outside_of_a_sweep_nothing_happens(sweep_task: Callable[..., Any]) -> None:
    with pytest.raises(SystemExit):
        sweep_task(task(-1.0), *SPACE, "hydra.sweeper.n_trials=1")
    assert "standard_error must be 0 or more, got -1.0" in load().trials[0].user_attrs["failure"]
    handle = TrialHandle(
        number=0, study_name="s", params={}, attempt=0, directory=".", user_attrs={}, study_attrs={}, reported={}
    )
    handle.set_standard_error(0.1)
    sweep_task(task(0.25), *SPACE, "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=kept")
    assert [trial.system_attrs[STANDARD_ERROR] for trial in load("kept").trials] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.stop_when=luck"], "hydra.sweeper.stop_when must be null or noise, got 'luck'"),
        (
            ["hydra.sweeper.stop_when=noise", "hydra.sweeper.direction=[maximize,minimize]"],
            "hydra.sweeper.stop_when needs one objective, got several; set it to null",
        ),
    ],
)
def test_mistakes_are_refused_in_one_line(sweep_task: Callable[..., Any], overrides: list[str], message: str) -> None:
    with pytest.raises(StudyError, match=re.escape(message)):
        sweep_task(task(0.1), *SPACE, *overrides)
