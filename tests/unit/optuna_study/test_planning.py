"""The plan of a study: what a callback learns about its trials, and what becomes of what it returns."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from hydra_plugins.optuna_study import StudyError, StudyPlan, StudyPreview, current_trial
from hydra_plugins.optuna_study._search_space._expected import combinations_of, likely_options
from hydra_plugins.optuna_study._search_space._grammar import Domain, Option

from .sweeping import load, run, states
from .test_space import BACKBONES, sampled, space


def test_the_shares_are_those_of_the_drawn_trials() -> None:
    built = space(BACKBONES)
    found = {each.values: each.share for each in combinations_of(built, lambda key: key == "model.finetune_depth")}
    assert sum(found.values()) == pytest.approx(1)
    # The condition names the backbone, which therefore counts as well; the learning rate does not.
    assert len(found) == 17 + 20
    drawn = sampled(built, 4000)
    deep = [each for each in drawn if each["model"] == "inception_v3" and each["model.finetune_depth"] >= 10]
    expected = sum(
        share for values, share in found.items() if ("model", "inception_v3") in values and int(values[1][1]) >= 10
    )
    assert len(deep) / len(drawn) == pytest.approx(expected, abs=0.03)


def test_an_enqueued_value_is_certain_and_others_stay_as_they_are() -> None:
    found = list(
        combinations_of(space(BACKBONES), lambda key: key == "model.finetune_depth", {"model": "mobilenet_v2"})
    )
    assert {each.values[0] for each in found} == {("model", "mobilenet_v2")}
    assert [each.share for each in found] == [pytest.approx(1 / 20)] * 20


def test_each_combination_is_an_example_of_a_trial() -> None:
    for each in combinations_of(space(BACKBONES), lambda key: key == "model"):
        assert len(each.overrides) == 3
        assert f"model={each.params['model']}" in each.overrides


def test_integers_on_a_log_scale_are_drawn_as_by_optuna() -> None:
    distribution = IntDistribution(1, 8, log=True)
    options = tuple(Option(number, str(number)) for number in range(1, 9))
    likely = {option.value: share for option, share in likely_options(Domain(distribution, options)).items()}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = Counter(study.ask({"x": distribution}).params["x"] for _ in range(4000))
    for number, share in likely.items():
        assert drawn[number] / 4000 == pytest.approx(share, abs=0.03)


def test_an_interval_is_represented_by_equally_likely_values() -> None:
    likely = likely_options(Domain(FloatDistribution(1e-4, 1.0, log=True)))
    values = [float(option.text) for option in likely]
    assert set(likely.values()) == {1 / 8}
    assert math.sqrt(values[0] * values[-1]) == pytest.approx(1e-2)  # symmetric on the log scale


# ---- in a sweep


class Planner:
    """Plans by x: from the largest to the smallest."""

    def plan_study(self, preview: StudyPreview) -> StudyPlan | None:
        expected = preview.expected(lambda key: key == "x")
        if not expected:
            return None
        order = sorted(range(len(expected)), key=lambda index: -float(expected[index].config.x))
        numbers = {each.values["x"]: round(each.number, 3) for each in expected}
        chances = {each.values["x"]: round(preview.chance([index]), 3) for index, each in enumerate(expected)}
        lines = [f"planned {preview.n_trials} trials", f"all {preview.chance(range(len(expected))):.3f}"]
        return StudyPlan({"plan": [numbers, chances]}, lines, order)


PLANNER = f"+hydra.sweeper.callbacks.plan._target_={__name__}.Planner"
CHOICES = ("x=choice(1,2,3)", "y=choice(0,1)")


def test_a_new_study_stores_the_plan_and_its_trials_see_it(sweep_task: Callable[..., Any]) -> None:
    seen: list[Any] = []

    def task(cfg: Any) -> float:
        trial = current_trial()
        assert trial is not None
        seen.append(trial.study_attrs["plan"])
        return float(cfg.x)

    sweep_task(task, PLANNER, *CHOICES, "hydra.sweeper.n_trials=4", "hydra.sweeper.enqueue=[{x: 2}]")
    numbers, chances = load().user_attrs["plan"]
    assert seen == [[numbers, chances]] * 4
    assert numbers == {"1": 1.0, "2": 2.0, "3": 1.0}
    assert chances == {"1": round(1 - (2 / 3) ** 3, 3), "2": 1.0, "3": round(1 - (2 / 3) ** 3, 3)}


def test_a_study_that_exists_keeps_its_plan_or_has_none(sweep: Callable[..., Any]) -> None:
    sweep(*CHOICES, "hydra.sweeper.n_trials=2")
    sweep(*CHOICES, PLANNER, "hydra.sweeper.n_trials=3")
    assert "plan" not in load().user_attrs
    sweep(*CHOICES, PLANNER, "hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=planned")
    first = load("planned").user_attrs["plan"]
    sweep(*CHOICES, PLANNER, "hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=planned")
    assert load("planned").user_attrs["plan"] == first


def test_plan_false_makes_none(sweep: Callable[..., Any]) -> None:
    sweep(*CHOICES, PLANNER, "hydra.sweeper.n_trials=1", "hydra.sweeper.plan=false")
    assert load().user_attrs == {}


def xs() -> Sequence[Any]:
    return [trial.params["x"] for trial in load().trials]


def test_what_is_enqueued_follows_the_order_of_the_plan(sweep: Callable[..., Any]) -> None:
    enqueue = "hydra.sweeper.enqueue=[{x: 1}, {x: 3, y: 0}, {y: 1, x: 2}, {x: 3, y: 1}]"
    sweep(*CHOICES, PLANNER, enqueue, "hydra.sweeper.n_trials=4")
    assert xs() == [3, 3, 2, 1]
    assert load().trials[2].params == {"x": 2, "y": 1}


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_the_points_of_a_grid_follow_it_too_and_each_runs_once(sweep: Callable[..., Any], sampler: str) -> None:
    sweep(*CHOICES, PLANNER, f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.enqueue=[{x: 2, y: 1}]")
    assert xs() == [3, 3, 2, 2, 1, 1]
    assert len({tuple(sorted(trial.params.items())) for trial in load().trials}) == 6
    assert states() == ["COMPLETE"] * 6
    assert set(load().user_attrs["plan"][1].values()) == {1.0}


def test_a_part_of_a_grid_is_left_to_the_sampler(sweep: Callable[..., Any]) -> None:
    sweep(*CHOICES, PLANNER, "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=4")
    assert len({tuple(sorted(trial.params.items())) for trial in load().trials}) == 4
    assert not any("fixed_params" in trial.system_attrs for trial in load().trials)


def test_plan_true_prints_it_and_runs_nothing(
    sweep: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep(*CHOICES, PLANNER, "hydra.sweeper.plan=true")
    assert capsys.readouterr().out.splitlines()[-2:] == ["planned 10 trials", "all 1.000"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_plan_true_as_a_command_ends_with_0(tmp_path: Path) -> None:
    done = run(*CHOICES, PLANNER, "hydra.sweeper.plan=true")
    assert "planned 10 trials" in done.stdout
    assert not (tmp_path / "study.db").exists()


def test_plan_true_without_a_plan_is_refused(sweep: Callable[..., Any]) -> None:
    with pytest.raises(StudyError, match="no callback with plan_study"):
        sweep("hydra.sweeper.plan=true")


def test_an_unknown_number_of_trials_is_not_planned(sweep: Callable[..., Any]) -> None:
    without = (*CHOICES, PLANNER, "hydra.sweeper.n_trials=null", "hydra.sweeper.budget=1s")
    with pytest.raises(StudyError, match="got n_trials=null"):
        sweep(*without, "hydra.sweeper.plan=true")
