"""What a task may return, and which of its trials may be called best: numbers, infinity, NaN, constraints."""

import json
import math
from collections import deque
from typing import Any

import numpy as np
import optuna
import pytest

from hydra_plugins.optuna_study import StudyError, current_trial, study_status
from hydra_plugins.optuna_study._optuna import read_objectives

from .sweeping import load, multirun, states

HERE = "tests.unit.optuna_study.test_objectives"
NO_STORAGE = "hydra.sweeper.storage=null"
TWO = "hydra.sweeper.direction=[minimize,maximize]"


def number_above_two(trial: optuna.trial.FrozenTrial) -> tuple[float, ...]:
    """Trials 0..2 violate it; 0 itself is allowed."""
    return (3.0 - trial.number, 0.0)


def number_is_three(trial: optuna.trial.FrozenTrial) -> list[float]:
    return [abs(trial.number - 3.0)]


def never(trial: optuna.trial.FrozenTrial) -> tuple[float, ...]:
    return (1.0, -1.0)


def nan_at_first(trial: optuna.trial.FrozenTrial) -> tuple[float, ...]:
    return (math.nan,) if trial.number == 0 else (-1.0,)


def broken_at_first(trial: optuna.trial.FrozenTrial) -> tuple[float, ...]:
    if trial.number == 0:
        raise RuntimeError("the constraint is broken")
    return (-1.0,)


def number(cfg: Any) -> float:
    return float(current_trial().number)


def constrained(name: str, *overrides: str, sampler: str = "tpe", task: Any = number) -> Any:
    return multirun(
        task, f"hydra/sweeper/sampler={sampler}", f"hydra.sweeper.sampler.constraints_func={HERE}.{name}", *overrides
    )


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "nsgaiii", "gp"])
def test_only_feasible_trials_are_best(sampler, capsys, tmp_path):
    pytest.importorskip("torch" if sampler == "gp" else "numpy")
    status = constrained("number_above_two", "hydra.sweeper.n_trials=5", "hydra.sweep.dir=out", sampler=sampler)
    assert [row.number for row in status.best] == [3, 4]
    assert [row.feasible for row in status.trials] == [False, False, False, True, True]
    assert "best_value: 3.0" in (tmp_path / "out/optimization_results.yaml").read_text()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial ")]
    assert ["infeasible" in line for line in lines] == [True, True, True, False, False]
    assert ["best " in line for line in lines] == [False, False, False, True, True]
    assert load().best_trial.number == status.best[0].number


def test_a_front_holds_only_feasible_trials():
    def task(cfg: Any) -> list[float]:
        return [number(cfg), [9.0, 9.0, 9.0, 1.0, 5.0][current_trial().number]]

    status = constrained("number_above_two", "hydra.sweeper.n_trials=5", TWO, sampler="nsgaii", task=task)
    assert [row.number for row in status.best] == [3, 4]
    assert {row.number for row in status.best} == {trial.number for trial in load().best_trials}


@pytest.mark.parametrize("directions", ["minimize", "[minimize,maximize]"])
def test_a_study_without_a_feasible_trial_says_so(directions, capsys, tmp_path):
    from eyegender.studies.report import write_report
    from eyegender.studies.status_table import show_status

    several = directions.startswith("[")
    status = constrained(
        "never", "hydra.sweeper.n_trials=3", f"hydra.sweeper.direction={directions}", "hydra.sweep.dir=out",
        task=lambda cfg: [number(cfg)] * 2 if several else number(cfg),
    )  # fmt: skip
    said = "no feasible trial: each of the 3 complete ones violates a constraint"
    assert status.best == []
    assert said in capsys.readouterr().out
    assert not (tmp_path / "out/optimization_results.yaml").exists()
    show_status(study_status("sqlite:///study.db", "toy"))
    assert said in capsys.readouterr().out
    assert said[1:] in write_report(load(), status, tmp_path).read_text()


def test_an_infeasible_trial_does_not_reset_early_stopping():
    # Infeasible ones get better and better; the only feasible one is number 3.
    def task(cfg: Any) -> float:
        mine = current_trial().number
        return 3.0 if mine == 3 else -float(mine)

    status = constrained(
        "number_is_three", "hydra.sweeper.n_trials=20", "hydra.sweeper.early_stopping_patience=2", task=task
    )
    assert status.counts.complete == 6
    assert [row.number for row in status.best] == [3]


@pytest.mark.parametrize("name", ["nan_at_first", "broken_at_first"])
def test_a_trial_whose_constraints_are_unknown_is_not_best(name):
    status = constrained(name, "hydra.sweeper.n_trials=3")
    assert states() == ["COMPLETE"] * 3
    assert [row.number for row in status.best] == [1, 2]


def test_nan_fails_that_trial_alone_and_infinity_is_a_value():
    values = [math.nan, math.inf, -math.inf, 1.0, 2.0]
    status = multirun(lambda cfg: values[current_trial().number], "hydra.sweeper.n_trials=4")
    assert [row.state for row in status.trials] == ["failed", *["complete"] * 4]
    assert [row.values for row in status.best] == [(-math.inf,), (1.0,), (2.0,), (math.inf,)]
    assert "nan" in status.failures[0].reason
    assert load().best_value == -math.inf


@pytest.mark.parametrize(
    ("sampler", "storage"),
    [*((sampler, "null") for sampler in ("tpe", "random", "cmaes", "nsgaii", "nsgaiii", "gp", "qmc")),
     ("tpe", "journal://study.log"), ("tpe", "sqlite:///study.db")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_every_sampler_continues_after_infinity(sampler, storage):
    pytest.importorskip({"gp": "torch", "cmaes": "cmaes", "qmc": "scipy"}.get(sampler, "numpy"))

    def task(cfg: Any) -> float:
        trial = current_trial()
        trial.report(math.inf, 0)
        assert not trial.should_prune()
        return math.inf if trial.number % 2 else float(cfg.x)

    arguments = [f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=14", f"hydra.sweeper.storage={storage}"]
    status = multirun(task, *arguments, "hydra/sweeper/pruner=nop")
    assert status.counts.complete == 14
    assert [row.values == (math.inf,) for row in status.trials] == [False, True] * 7
    assert all(row.reported == {0: math.inf} for row in status.trials)


def test_a_report_of_infinite_values_is_written(tmp_path):
    from eyegender.studies.report import write_report

    values = [math.inf, -math.inf, 1.0, 2.0]
    status = multirun(lambda cfg: values[current_trial().number], "hydra.sweeper.n_trials=4")
    assert "-inf" in write_report(load(), status, tmp_path).read_text()
    best = json.loads((tmp_path / "report/best.json").read_text(), parse_constant=pytest.fail)["best"]
    assert [row["values"] for row in best] == [["-inf"], [1.0], [2.0], ["inf"]]


def test_reports_that_are_not_finite_reach_the_pruner_of_several_objectives():
    def task(cfg: Any) -> list[float]:
        trial = current_trial()
        trial.report([math.nan, math.inf, -math.inf][trial.number], 0)
        trial.report(float("nan") if trial.number == 2 else 0.0, 1)
        return [0.0, 0.0]

    rows = multirun(task, TWO, "hydra.sweeper.n_trials=3").trials
    assert [str(row.reported[0]) for row in rows] == ["nan", "inf", "-inf"]
    assert math.isnan(rows[2].reported[1])


@pytest.mark.parametrize("rate", ["0", "0.0"])
def test_a_rate_of_zero_stops_at_the_first_failure(rate):
    with pytest.raises(SystemExit):
        multirun(lambda cfg: math.nan, f"hydra.sweeper.max_failure_rate={rate}")
    assert states() == ["FAIL"]


def test_the_share_of_failures_is_checked_from_the_third_trial_on():
    # 0.34 of 3 allows one; two fail at once, and the sweep continues with the third.
    with pytest.raises(SystemExit):
        multirun(lambda cfg: [math.nan, math.nan, 1.0, 1.0][current_trial().number], "hydra.sweeper.n_trials=3")
    assert states() == ["FAIL", "FAIL", "COMPLETE"]


@pytest.mark.parametrize("n_trials", [1, 2])
def test_a_task_that_always_fails_ends_with_its_budget(n_trials):
    with pytest.raises(SystemExit):
        multirun(lambda cfg: math.nan, f"hydra.sweeper.n_trials={n_trials}")
    assert states() == ["FAIL"] * n_trials


def test_a_grid_without_a_finished_trial_is_aborted():
    with pytest.raises(SystemExit) as stopped:
        multirun(lambda cfg: math.nan, "hydra/sweeper/sampler=grid", "x=choice(1,2)", "y=choice(1)")
    assert stopped.value.code == 1
    assert states() == ["FAIL"] * 2


@pytest.mark.parametrize("rate", ["nan", "inf", "-0.1", "1.01"])
def test_a_failure_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(StudyError, match="max_failure_rate must be"):
        multirun(number, f"hydra.sweeper.max_failure_rate={rate}")


@pytest.mark.parametrize(
    "value",
    [[1, 2.0], (1, 2), np.array([1, 2]), np.array([1.0, 2.0], dtype=np.float32), deque([1, 2]), range(1, 3),
     [np.float64(1), np.array(2)], [np.array([1.0]).item(), True + 1], iter([1, 2]), (v for v in (1, 2)),
     ["1", "2"]],
)  # fmt: skip
def test_several_objectives_may_come_as_any_sequence(value):
    assert read_objectives(value, 2) == ([1.0, 2.0], None)


def test_several_objectives_may_come_as_a_tensor():
    torch = pytest.importorskip("torch")
    assert read_objectives(torch.tensor([1.0, 2.0]), 2) == ([1.0, 2.0], None)
    assert read_objectives([torch.tensor(1.0), torch.tensor([2.0])], 2) == ([1.0, 2.0], None)
    assert read_objectives(torch.tensor(3.0), 1) == ([3.0], None)
    assert "a number per objective" in (read_objectives(torch.zeros(2, 2), 2)[1] or "")


@pytest.mark.parametrize("value", [3, 3.0, "3", np.float32(3), np.array(3.0), np.array([3]), [3], (3,)])
def test_one_objective_may_come_alone_or_in_a_sequence(value):
    assert read_objectives(value, 1) == ([3.0], None)


@pytest.mark.parametrize(
    ("value", "objectives", "rule"),
    [
        (np.array([1.0, 2.0, 3.0]), 2, "2 value.s., got 3"),
        (np.zeros((2, 2)), 2, "a number per objective"),
        (np.array(1.0), 2, "2 value.s., got 1"),
        ({"a": 1, "b": 2}, 2, "2 value.s., got 1"),
        ({1, 2}, 2, "2 value.s., got 1"),
        ("12", 2, "2 value.s., got 1"),
        (None, 1, "a number per objective, got 'None'"),
        (10**400, 1, "a number per objective"),
        ([1, 2j], 2, "a number per objective"),
        (np.array([1.0, np.nan]), 2, "the objective is nan"),
    ],
)
def test_what_is_no_objective_gets_a_reason(value, objectives, rule):
    values, wrong = read_objectives(value, objectives)
    assert values is None
    assert __import__("re").search(rule, wrong or "")


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["+d2=choice({a:1,b:1},{a:2,b:2})", "d2.b=9"], [(1, 9), (2, 9)]),
        (["d2=choice({a:1},{a:2})", "d2.b=9"], [(1, 9), (2, 9)]),
        (["d2.b=9", "+d2=choice({a:1,b:1},{a:2,b:2})"], [(1, 1), (2, 2)]),
        (["d2.b=choice(3,4)", "d2={a:7,b:7}"], [(7, 7), (7, 7)]),
        (["d2=choice({a:1},{a:2})", "~d2.b"], [(1, None), (2, None)]),
        (["d2={a:7,b:7}", "d2.b=choice(3,4)"], [(7, 3), (7, 4)]),
        (["+d2=choice({a:1,b:1},{a:2,b:2})", "d2.b=choice(8,9)"], [(1, 8), (1, 9), (2, 8), (2, 9)]),
    ],
)
def test_overrides_apply_in_the_order_of_the_command_line(overrides, found, tmp_path):
    seen = []

    def task(cfg: Any) -> float:
        seen.append((cfg.d2.a, cfg.d2.get("b")))
        return 0.0

    (tmp_path / "config.yaml").write_text(
        "defaults: [_self_, override hydra/sweeper: optuna_study]\nd2: {a: 0, b: 0}\n"
    )
    multirun(task, *overrides, "hydra/sweeper/sampler=grid", config_dir=tmp_path)
    assert sorted(seen) == found


def test_a_custom_tag_changes_nothing():
    seen = []
    multirun(lambda cfg: seen.append(cfg.x) or 0.0, "x=tag(t1,choice(1,2))", "y=tag(t1,t2,range(0,1))",
             "hydra/sweeper/sampler=grid", NO_STORAGE)  # fmt: skip
    assert sorted(seen) == [1, 2]
