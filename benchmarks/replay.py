"""Sweeps in simulated time: the sweeper's own queue, samplers, pruners and schedulers, without training anything."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.search_outcome import Outcome
from hydra_plugins.optuna_study._budget import Budget
from hydra_plugins.optuna_study._heartbeat import WorkerId
from hydra_plugins.optuna_study._monitoring._recommendation import LEAST, recommend
from hydra_plugins.optuna_study._optuna import build_pruner, build_sampler, finish, provide_trials, suggest
from hydra_plugins.optuna_study._queue import Claim, TrialQueue
from hydra_plugins.optuna_study._running_trial import RunningTrial
from hydra_plugins.optuna_study._schedulers import Curve
from hydra_plugins.optuna_study._schedulers._pausing import build_scheduler
from hydra_plugins.optuna_study._schedulers._spending import Limit
from hydra_plugins.optuna_study._storage import Storage, storage_spec
from hydra_plugins.optuna_study._storage_wrappers import TrialCache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.curve_table import CurveTable

NAME = "replay"


@dataclass(frozen=True)
class Policy:
    """What a sweep decides by.

    Args:
        sampler, pruner, scheduler: configs with `_target_`, as in `hydra.sweeper`.
        column: the metric that trials report.
        recommends: whether the sweep ends with the trial that the sweeper recommends, instead of the best value.
    """

    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    column: str
    recommends: bool = False


class _Incumbent:
    """The trial that the sweep would end with now."""

    def __init__(self, table: CurveTable, policy: Policy) -> None:
        self.table, self.policy = table, policy
        self.best: dict[int, float] = {}  # best value by trial
        self.complete: dict[int, float] = {}
        self.curves: dict[int, Curve] = {}
        self.chosen, self._is_recommended, self._next = -1, False, LEAST

    def see(self, number: int, value: float, epoch: int, params: Mapping[str, Any]) -> None:
        if not self._is_recommended and value > self.best.get(self.chosen, -np.inf):
            self.chosen = number
        self.best[number] = max(value, self.best.get(number, -np.inf))
        if not self.policy.recommends:
            return
        seen = self.curves.get(number)
        reports = {epoch: value} if seen is None else {**seen.values, epoch: value}
        self.curves[number] = Curve(number, "running", reports, params, distributions=self.table.distributions())
        if epoch < self.table.epochs:
            return
        self.complete[number] = self.best[number]
        if len(self.complete) >= self._next:
            self._next = int(1.05 * len(self.complete)) + 1  # looking less often saves time in long sweeps
            found = recommend(list(self.curves.values()), self.complete)
            if found is not None:
                self.chosen, self._is_recommended = found, True


class _Beating:
    """A heartbeat that nothing stops."""

    lost = False
    stop_requested = False


class _Worker:
    """One worker; like the sweeper's own, but it does not wait while an epoch trains."""

    def __init__(self, index: int, storage: Storage, policy: Policy, table: CurveTable, budget: Budget) -> None:
        self.table = table
        scheduler = build_scheduler(policy.scheduler)
        worker_id = WorkerId.of_this_process(NAME, index, 1e9)
        self.queue = TrialQueue(storage, NAME, budget, worker_id, scheduler=scheduler)
        self.scheduler = scheduler
        self.cache = TrialCache(storage.optuna)
        self.study = optuna.load_study(
            study_name=NAME,
            storage=self.cache,
            sampler=build_sampler(policy.sampler, None, index),  # type: ignore[arg-type]  # no grid is replayed
            pruner=build_pruner(policy.pruner),
        )

    def claim(self, clock: Callable[[], float]) -> bool:
        """Start or continue a trial; false if there is none now."""
        claimed = self.queue.claim()
        if isinstance(claimed, Claim):
            return False
        started, seen = self.queue.claimed, self.queue.seen
        assert started is not None
        self.cache.cache(started, self.queue.tally.number_without_retries(started))
        provide_trials(self.study, self.cache.merge(seen))
        self.trial = optuna.Trial(self.study, claimed)
        self.params = {name: suggest(self.trial, name, d) for name, d in self.table.distributions().items()}
        self.running = RunningTrial(
            self.study, self.cache, self.trial, self.cache.get_trial(claimed), _Beating(),  # type: ignore[arg-type]
            params=self.params, directory="", study_attrs={}, pruned_objective=0, scheduler=self.scheduler,
            curves=self.queue.paused.curves, limit=self.queue.budget.limit, clock=clock,
        )  # fmt: skip
        self.running.set_max_resource(self.table.epochs)
        self.trial_id = claimed
        return True

    def report(self, value: float, epoch: int) -> bool:
        """Report an epoch; whether the trial ended or paused."""
        self.running.report(value, epoch)
        if epoch == self.table.epochs:
            finish(self.study, self.trial, TrialState.COMPLETE, [max(self.running.reported.values())])
        elif self.running.should_pause():
            self.queue.paused.pause(self.trial_id)
        elif self.running.should_prune():
            finish(self.study, self.trial, TrialState.PRUNED)
        else:
            return False
        return True


def replay(
    table: CurveTable,
    policy: Policy,
    workers: int,
    n_trials: int | None,
    seed: int,
    overhead: float,
    limit: str | None = None,
) -> Outcome:
    """One sweep.

    Args:
        table: what trainings give and cost.
        policy: of the sweep.
        workers: number of workers.
        n_trials: number of finished trials, or None if only the limit ends the sweep.
        seed: of samplers and of the trainings.
        overhead: seconds around a trial each time it starts or continues.
        limit: `hydra.sweeper.budget`.
    """
    storage = Storage(storage_spec(None))
    optuna.create_study(study_name=NAME, storage=storage.optuna, direction="maximize")
    seeded = replace(policy, sampler={**policy.sampler, "seed": seed * workers})
    budget = Budget(n_trials, limit=Limit.parse(limit))
    pool = [_Worker(index, storage, seeded, table, budget) for index in range(workers)]
    rng = np.random.default_rng(seed)
    outcome, curves, now, incumbent = Outcome(), {}, 0.0, _Incumbent(table, policy)
    reached: dict[int, float] = {}  # quality of each trial so far
    order = itertools.count()
    events: list[tuple[float, int, int, bool]] = [(0.0, next(order), index, False) for index in range(workers)]
    idle: list[int] = []
    while events:
        now, _, index, trains = heapq.heappop(events)
        worker = pool[index]
        if trains:
            number, epoch = worker.running.number, (worker.running.last_step or 0) + 1
            value = float(curves[number][epoch - 1])
            outcome.epochs += 1
            reached[number] = float(table.quality(worker.params, policy.column)[epoch - 1])
            incumbent.see(number, value, epoch, worker.params)
            outcome.incumbents.append((now, reached[incumbent.chosen]))
            if worker.report(value, epoch):
                trains = False
                events += [(now, next(order), waiting, False) for waiting in idle]
                heapq.heapify(events)
                idle = []
        start = 0.0
        if not trains:
            if not worker.claim(lambda: now):  # noqa: B023
                idle.append(index)
                continue
            start = overhead
            if worker.running.number not in curves:
                curves[worker.running.number] = table.train(worker.params, rng)[policy.column]
        seconds = start + table.seconds(worker.params)
        outcome.worker_seconds += seconds
        heapq.heappush(events, (now + seconds, next(order), index, True))
    outcome.seconds = now
    counts = pool[0].queue.progress().counts
    outcome.complete = counts.complete
    outcome.trials = {"finished": counts.finished, "paused": counts.paused, "running": counts.running}
    return outcome
