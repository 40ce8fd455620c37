"""Sweeps in simulated time: what a table of curves gives between its points, and that every policy keeps the budget."""

import csv
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from benchmarks.curve_table import AVERAGED, PLAIN, POINTS, CurveTable
from benchmarks.replay import replay
from benchmarks.search import POLICIES, main

EPOCHS, DEPTHS, RATES, OPTIMIZERS = 6, (0, 2, 6), (1e-4, 1e-3, 1e-2), ("adamw", "sgd")


def accuracy(depth, rate, optimizer, epoch):
    """Best at depth 6, rate 1e-3 and adamw; all curves rise."""
    final = 0.8 + 0.02 * depth - 0.05 * abs(math.log10(rate) + 3) - 0.03 * (optimizer == "sgd")
    return final - 0.2 / epoch


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        values = ["seed", "epoch", PLAIN, AVERAGED, "val_loss", "seconds", "seconds_stored"]
        writer.writerow(["depth", "lr", "optimizer", *values])
        for depth, rate, optimizer, seed in itertools.product(DEPTHS, RATES, OPTIMIZERS, (0, 1)):
            for epoch in range(1, EPOCHS + 1):
                value = accuracy(depth, rate, optimizer, epoch) + 0.01 * (seed - 0.5)
                writer.writerow([depth, rate, optimizer, seed, epoch, value, value + 0.001, 0, depth + 2, depth + 1])
    return path


def recorded(depth, rate, optimizer):
    """The two recorded trainings of a point, shape (2, epochs)."""
    curve = np.array([accuracy(depth, rate, optimizer, epoch) for epoch in range(1, EPOCHS + 1)])
    return np.stack([curve - 0.005, curve + 0.005])


def test_a_training_at_a_recorded_point_is_one_of_its_seeds(path):
    table, rng = CurveTable(path), np.random.default_rng(0)
    for depth, rate, optimizer in itertools.product(DEPTHS, RATES, OPTIMIZERS):
        point = {"depth": depth, "lr": rate, "optimizer": optimizer}
        trained = [table.train(point, rng)[PLAIN] for _ in range(20)]
        both = recorded(depth, rate, optimizer)
        nearest = [int(np.argmin(np.abs(both - curve).max(axis=1))) for curve in trained]
        assert set(nearest) == {0, 1}
        assert np.array(trained) == pytest.approx(both[nearest])


def test_quality_is_the_best_value_so_far_as_a_mean_over_the_seeds(path):
    table = CurveTable(path)
    expected = recorded(2, 1e-3, "sgd").mean(axis=0)  # these curves only rise
    assert table.quality({"depth": 2, "lr": 1e-3, "optimizer": "sgd"}, PLAIN) == pytest.approx(expected)


def test_between_points_quality_is_interpolated_with_the_rate_on_a_log_scale(path):
    table = CurveTable(path)
    between = table.quality({"depth": 4, "lr": 10**-2.5, "optimizer": "sgd"}, PLAIN)
    ends = [accuracy(depth, rate, "sgd", EPOCHS) for depth in (2, 6) for rate in (1e-3, 1e-2)]
    assert between[-1] == pytest.approx(expit(np.mean(logit(ends))))
    assert table.seconds({"depth": 6, "lr": 1e-3, "optimizer": "sgd"}) == pytest.approx(7)
    assert table.seconds({"depth": 6, "lr": 1e-3, "optimizer": "sgd"}, stored=False) == pytest.approx(8)


def test_trainings_between_points_lie_around_the_quality_there_and_never_leave_0_to_1(path):
    table, rng = CurveTable(path), np.random.default_rng(0)
    point = {"depth": 4, "lr": 10**-2.5, "optimizer": "adamw"}
    trained = np.array([table.train(point, rng)[PLAIN] for _ in range(200)])
    assert trained[:, -1].mean() == pytest.approx(table.quality(point, PLAIN)[-1], abs=0.004)
    assert trained[:, -1].std() == pytest.approx(0.005, rel=0.5)
    assert trained.min() > 0
    assert trained.max() < 1


def test_the_best_is_sought_on_at_least_500_points(path):
    table = CurveTable(path)
    assert len(table.lattice()) >= POINTS
    assert table.best == pytest.approx(accuracy(6, 1e-3, "adamw", EPOCHS) + 0.001, abs=0.002)


def test_a_point_may_have_fewer_seeds_but_not_none(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-EPOCHS]))
    point = {"depth": DEPTHS[-1], "lr": RATES[-1], "optimizer": OPTIMIZERS[-1]}
    table, rng = CurveTable(path), np.random.default_rng(0)
    assert table.train(point, rng)[PLAIN] == pytest.approx(recorded(*point.values())[0])
    path.write_text("".join(lines[: -2 * EPOCHS]))
    with pytest.raises(SystemExit, match="every combination"):
        CurveTable(path)


def test_an_interrupted_seed_does_not_count(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    assert CurveTable(path).recorded.sum() == len(DEPTHS) * len(RATES) * len(OPTIMIZERS) * 2 - 1


def test_a_table_that_is_not_there_is_refused_with_the_command_that_records_it(tmp_path):
    with pytest.raises(SystemExit, match=r"got .*nowhere.csv; record one with benchmarks.record_curves"):
        CurveTable(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("argument", ["workers=16", "policies=nothing"])
def test_a_policy_or_number_of_workers_that_is_not_known_is_refused(path, monkeypatch, argument):
    monkeypatch.setattr("sys.argv", ["search", f"table={path}", argument])
    with pytest.raises(SystemExit, match=f"{argument.partition('=')[0]} must be among .*, got"):
        main()


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
def test_every_policy_keeps_its_budget_and_repeats_itself(path, policy, workers):
    table = CurveTable(path)
    first, again = (replay(table, policy, workers, 10, seed=3, overhead=0.5) for _ in range(2))
    assert (first.incumbents, first.seconds) == (again.incumbents, again.seconds)
    assert first.trials == {"finished": 10, "paused": 0, "running": 0}
    assert first.worker_seconds <= workers * first.seconds + 1e-6
    if workers == 1:
        assert first.worker_seconds == pytest.approx(first.seconds)


def test_promotion_trains_fewer_epochs_and_one_trial_to_the_end(path):
    table = CurveTable(path)
    whole = replay(table, POLICIES["TPE on averaged weights"], 1, 12, seed=0, overhead=0.0)
    promoted = replay(table, POLICIES["default: early TPE + promotion"], 1, 12, seed=0, overhead=0.0)
    assert promoted.epochs < 0.8 * whole.epochs
    assert whole.epochs == 12 * EPOCHS
    assert promoted.complete >= 1


def test_the_incumbent_is_judged_by_the_epochs_that_its_trial_has_trained(tmp_path):
    path = tmp_path / "table.csv"
    falling, rising = np.linspace(0.9, 0.7, EPOCHS), np.linspace(0.5, 0.95, EPOCHS)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["lr", "seed", "epoch", PLAIN, AVERAGED, "val_loss", "seconds", "seconds_stored"])
        for rate, (seed, curve) in itertools.product((1e-3, 1e-2), enumerate((falling, rising))):
            for epoch, value in enumerate(curve, 1):
                writer.writerow([rate, seed, epoch, value, value, 0, 1, 1])
    best = (falling.max() + rising.max()) / 2
    for seed in range(4):  # whichever of the two trainings it is
        outcome = replay(CurveTable(path), POLICIES["random"], 1, 1, seed=seed, overhead=0.0)
        assert outcome.incumbents[-1] == pytest.approx((EPOCHS, best), abs=1e-6)
        assert [quality for _, quality in outcome.incumbents] == sorted(quality for _, quality in outcome.incumbents)


def test_a_policy_that_recommends_does_not_end_with_a_lucky_trial(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["lr", "seed", "epoch", PLAIN, AVERAGED, "val_loss", "seconds", "seconds_stored"])
        for rate, values in {1e-4: (0.92, 0.92), 1e-3: (0.93, 0.93), 1e-2: (0.94, 0.7), 1e-1: (0.94, 0.6)}.items():
            for seed, value in enumerate(values):
                writer.writerows([rate, seed, epoch, value, value, 0, 1, 1] for epoch in (1, 2, 3))
    table, policy = CurveTable(path), POLICIES["random"]
    off = {
        recommends: [
            table.best - replay(table, replace(policy, recommends=recommends), 1, 24, seed, 0.0).incumbents[-1][1]
            for seed in range(10)
        ]
        for recommends in (False, True)
    }
    assert np.median(off[False]) > 0.025
    assert np.median(off[True]) < 0.015
