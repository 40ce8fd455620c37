"""`hydra.sweeper.budget` with many workers, in simulated time."""

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from benchmarks.replay import Policy, replay


class Table:
    """Learning curves whose prices differ by a factor of 100, as those of depths do."""

    epochs = 10

    def distributions(self):
        return {"x": FloatDistribution(0.0, 1.0)}

    def train(self, params, rng):
        noise = rng.normal(0, 0.05, self.epochs)
        return {"value": params["x"] * np.linspace(0.3, 1.0, self.epochs) + noise}

    def seconds(self, params):
        return float(100 ** params["x"])

    def quality(self, params, _column):
        return params["x"] * np.linspace(0.3, 1.0, self.epochs)


def simulate(scheduler, workers, limit, seed):
    sampler = {"_target_": "optuna.samplers.RandomSampler"}
    target = "hydra_plugins.optuna_study.PromotionScheduler"
    scheduler = {"_target_": target, "min_resource": 1, "reduction_factor": 3} if scheduler else {"_target_": None}
    policy = Policy(sampler, {"_target_": "optuna.pruners.NopPruner"}, scheduler, "value")
    return replay(Table(), policy, workers, None, seed, 0.0, limit)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("workers", [1, 8])
def test_many_workers_together_do_not_exceed_a_budget_of_epochs(workers, seed):
    outcome = simulate("promotion", workers, "200 epochs", seed)
    assert 190 < outcome.epochs <= 200
    assert outcome.complete >= 1
    assert (outcome.trials["paused"], outcome.trials["running"]) == (0, 0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("workers", [1, 8])
def test_a_budget_of_seconds_is_exceeded_by_at_most_an_epoch_of_each_running_trial(workers, seed):
    outcome = simulate("promotion", workers, "6000s", seed)
    assert outcome.worker_seconds <= 6000 + workers * 100
    assert outcome.complete >= 1


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("workers", [1, 8])
def test_without_pauses_it_is_exceeded_by_at_most_what_the_running_trials_need(workers, seed):
    outcome = simulate(None, workers, "6000s", seed)
    assert outcome.worker_seconds <= 6000 + workers * 1000
    assert outcome.trials["finished"] == outcome.complete
