"""The freeze-thaw scheduler and its model of learning curves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hydra_plugins.optuna_study import START, Curve, FreezeThawScheduler
from hydra_plugins.optuna_study._schedulers._curve_model import CurveModel, Encoding

LENGTH = 10
SPACE = {"depth": IntDistribution(0, 19), "lr": FloatDistribution(1e-4, 1e-2, log=True)}


def final(depth, rate):
    return 0.80 + 0.007 * depth - 0.01 * (math.log10(rate) + 3) ** 2


def curve(number, depth, steps, state="paused", rate=1e-3, worse=0.0, price=None):
    """A curve that rises to its final value, and costs more per step the deeper it is."""
    values = {step: final(depth, rate) - worse - 0.3 * math.exp(-step / 2) for step in range(1, steps + 1)}
    seconds = {step: step * ((1.0 + depth) if price is None else price) for step in values}
    return Curve(number, state, values, {"depth": depth, "lr": rate}, seconds, SPACE, max_resource=LENGTH)


COMPLETE = [curve(number, depth, LENGTH, "complete") for number, depth in enumerate((0, 5, 10, 15))]


def test_the_model_predicts_final_values_and_prices_of_configurations_that_were_not_tried():
    model = CurveModel([*COMPLETE, curve(4, 12, 4)], LENGTH)
    deep, shallow = model.encode([{"depth": 14, "lr": 1e-3}, {"depth": 2, "lr": 1e-3}])
    mean, deviation = model.final(np.stack([deep, shallow]))
    assert mean[0] - mean[1] > 2 * max(deviation)
    prices = model.prices(np.stack([deep, shallow]))
    assert prices == pytest.approx([15, 3], rel=0.35)


def test_a_hopeless_trial_pauses_and_a_promising_one_does_not():
    scheduler = FreezeThawScheduler()
    hopeless, promising = curve(4, 1, 3, "running"), curve(5, 18, 3, "running")
    assert scheduler.should_pause(hopeless, [*COMPLETE, hopeless])
    assert not scheduler.should_pause(promising, [*COMPLETE, promising])


def test_at_the_start_every_trial_pauses_at_the_first_decision_and_nothing_is_predicted():
    scheduler = FreezeThawScheduler()
    for steps, pauses in ((2, False), (3, True), (4, False), (LENGTH, False)):
        only = curve(0, 10, steps, "running")
        assert scheduler.should_pause(only, [only]) == pauses
    assert scheduler.choose([curve(0, 10, 3)], may_start=True) == START
    assert scheduler.choose([curve(0, 10, 3)], may_start=False) == 0


def test_of_two_equally_promising_trials_the_cheaper_one_continues():
    cheap, dear = curve(4, 14, 6, price=1.0), curve(5, 14, 6, price=300.0)
    for paused in ([cheap, dear], [dear, cheap]):
        assert FreezeThawScheduler().choose([*COMPLETE, *paused], may_start=False) == 4


def test_at_the_end_the_leader_is_trained_to_its_end_and_hopeless_trials_are_not():
    leader, hopeless = curve(4, 19, 6), curve(5, 1, 6)
    scheduler = FreezeThawScheduler()
    assert scheduler.choose([*COMPLETE, hopeless, leader], may_start=False) == 4
    assert scheduler.choose([*COMPLETE, hopeless], may_start=False) is None


def test_of_thousands_of_trials_the_model_knows_the_best_and_some_of_the_others():
    scheduler, leader = FreezeThawScheduler(), curve(3000, 19, 6)
    history = [curve(number, number % 15, LENGTH, "complete", worse=0.0001 * number) for number in range(3000)]
    hopeless = [curve(number, 1, 3, worse=0.2) for number in range(3001, 3400)]
    assert scheduler.choose([*history, leader, *hopeless], may_start=False) == 3000
    running = curve(4000, 19, 3, "running", worse=-0.03)
    assert not scheduler.should_pause(running, [*history, leader, *hopeless, running])
    assert scheduler._last is not None
    assert len(scheduler._last.curves) <= 400


@pytest.mark.parametrize("arguments", [{"min_resource": 0}, {"n_startup_trials": 1}])
def test_arguments_out_of_their_range_are_refused(arguments):
    with pytest.raises(ValueError, match="at least"):
        FreezeThawScheduler(**arguments)


def test_configurations_with_conditions_and_choices_become_vectors():
    space = {"model": CategoricalDistribution(["a", "b"]), "size": CategoricalDistribution([32, 64, 96])}
    plain = Curve(0, "complete", {1: 0.5}, {"model": "a", "size": 32}, distributions=space)
    deep = {**space, "depth": IntDistribution(0, 4)}
    more = Curve(1, "complete", {1: 0.6}, {"model": "b", "size": 96, "depth": 4}, distributions=deep)
    encode = Encoding.of([plain, more])
    points = encode([plain.params, more.params])
    # depth and whether it is present; the two words; the rank of the size
    assert points == pytest.approx(np.array([[0.5, 0, 0.5**0.5, 0, 0], [1, 1, 0, 0.5**0.5, 1]]))
    changed = encode.with_random_ranges(points, np.random.default_rng(0))
    assert np.array_equal(changed[0], points[0])
    assert np.array_equal(changed[1, 1:], points[1, 1:])
    assert 0 <= changed[1, 0] < 1


values = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-5, 5)
histories = st.lists(
    st.tuples(
        st.sampled_from(["complete", "pruned", "failed", "running", "paused", "waiting"]),
        st.lists(values, max_size=LENGTH),
        st.integers(0, 19),
    ),
    max_size=9,
)


@settings(deadline=None, max_examples=60)
@given(histories, st.booleans())
def test_whatever_is_reported_it_chooses_something_that_may_run(history, may_start):
    curves = [
        Curve(n, state, dict(enumerate(reported, 1)), {"depth": d, "lr": 1e-3}, {}, SPACE, max_resource=LENGTH)
        for n, (state, reported, d) in enumerate(history)
    ]
    scheduler = FreezeThawScheduler()
    choice = scheduler.choose(curves, may_start)
    paused = {c.number for c in curves if c.state == "paused"}
    assert choice in paused | {None} | ({START} if may_start else set())
    assert choice is not None or not may_start
    for running in curves:
        if running.state == "running":
            scheduler.should_pause(running, curves)
