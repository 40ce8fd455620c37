"""TrialQueue: one process's view of the trials of a study. It alone decides what a worker runs next."""

import copy
import datetime
import enum
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ._budget import (
    ALIVE,
    COMPLETION,
    EXHAUSTED,
    FAILURE,
    INTERRUPTED,
    OWNER,
    Budget,
    Progress,
    first_number,
    has_too_many_failures,
    reason_to_stop,
    worker_deaths,
)
from ._heartbeat import StalenessMonitor, WorkerId
from ._history._tally import Tally
from ._monitoring._noise import NoiseStop
from ._optuna import id_of, identify
from ._schedulers import Scheduler
from ._schedulers._pausing import PausedTrials
from ._schedulers._reopening import next_attempt
from ._storage import Storage
from ._storage_wrappers import outages_of

# Seconds after which any worker may requeue an attempt that was ended but not requeued, because the process that ended
# it died in between.
_ORPHAN_SECONDS = 10.0


class Claim(enum.Enum):
    """What a worker that got no trial does next."""

    WAIT = "other workers still run trials, one of which may be requeued"
    DONE = "the study is complete, or stops early"


class TrialQueue:
    """Claims trials, releases them, and requeues those of dead workers.

    Args:
        storage: storage of the study.
        study_name: name of the study.
        budget: when the study is complete, and when it stops early.
        worker_id: this process.
        scheduler: decides which paused trial continues, or None.
        reported_objective: index of the objective that tasks report.
    """

    def __init__(
        self,
        storage: Storage,
        study_name: str,
        budget: Budget,
        worker_id: WorkerId,
        *,
        scheduler: Scheduler | None = None,
        reported_objective: int = 0,
    ) -> None:
        self.shared = storage
        self.storage: Any = storage.optuna
        self.study_name = study_name
        self.study_id = self.storage.get_study_id_from_name(study_name)
        self.budget = budget
        self.worker_id = worker_id
        self.staleness = StalenessMonitor(outages_of(self.storage))
        # The signal on which this command stops its launch: the death of a worker then counts as no retry.
        self.stop_signal: int | None = None
        # Trials that ended without running to their end here, because their workers kept dying or because nothing
        # continued them after a pause, until their callbacks are called.
        self.ended: list[FrozenTrial] = []
        # All trials as the last claim saw them, and the claimed one as it is since.
        self.seen: list[FrozenTrial] = []
        self.claimed: FrozenTrial | None = None
        # The trial that this process started last: a signal may arrive before the trial has its owner.
        self._starting: int | None = None
        directions = self.storage.get_study_directions(self.study_id)
        maximize = None if len(directions) > 1 else directions[0] == StudyDirection.MAXIMIZE
        # What the last call of `trials` found.
        self.tally = Tally(worker_id.launch_id, maximize)
        self.paused = PausedTrials(self, scheduler, directions[reported_objective] == StudyDirection.MAXIMIZE)
        self.noise = NoiseStop(self, bool(maximize)) if budget.stop_when == "noise" else None
        # The worker's loop and the thread that looks for dead workers both use the monitor and requeue trials.
        self._mutex = threading.RLock()

    def note_stop_signal(self, signum: int) -> None:
        self.stop_signal = signum

    def trials(self) -> list[FrozenTrial]:
        """Read the trials of the study; `tally` follows."""
        trials: list[FrozenTrial] = self.storage.get_all_trials(self.study_id, deepcopy=False)
        self.tally.update(trials)
        return trials

    def progress(self, trials: Sequence[FrozenTrial] | None = None) -> Progress:
        """How far the study is now or, given the trials that were read last, was then."""
        trials = self.trials() if trials is None else trials
        counts = self.tally.counts()
        done = counts.finished
        if self.budget.failures_use_budget:
            done += counts.failed + counts.failed_before
        complete = done >= self.budget.most_trials
        stopped = None if complete else reason_to_stop(counts, self.tally.finished_since_best(), self.budget)
        unfinished = counts.running + counts.waiting + counts.paused
        if not complete and stopped is None and not unfinished and self._is_exhausted():
            stopped = "every combination of values has been tried"
        if not complete and stopped is None:
            stopped = self.paused.budget_spent(trials) or (self.noise.reason() if self.noise else None)
        return Progress(counts, complete, stopped)

    def mark_exhausted(self) -> None:
        """Store that the sampler has tried every combination."""
        self.storage.set_study_system_attr(self.study_id, EXHAUSTED, True)

    def _is_exhausted(self) -> bool:
        return self.budget.failures_use_budget and bool(
            self.storage.get_study_system_attrs(self.study_id).get(EXHAUSTED, False)
        )

    # ---- claiming

    def claim(self, prepare: Callable[[int], Any] | None = None) -> int | Claim:
        """Take the next trial of the budget and return its id. From then on it is running and this worker's.

        Args:
            prepare: called with the id while the lock of the study is held, for samplers that must not sample at the
                same time in two workers.
        """
        with self.shared.lock(self.study_name) as locked:
            trials = self.trials()
            if self.requeue_stale(fresh=False):
                trials = self.trials()
            if self.noise is not None:
                self.noise.check(trials)
            progress = self.progress(trials)
            if progress.is_over:
                if not has_too_many_failures(progress.counts, self.budget):  # after a repair, they continue
                    self.paused.prune_all()
                return Claim.DONE
            self.seen = trials
            claimed = self._claim_waiting(trials, locked)
            if claimed is None:
                has_budget = self.tally.budget_used(self.budget) < self.budget.most_trials
                claimed = self.paused.claim(trials, has_budget and not self._is_exhausted())
            if claimed is None:
                return Claim.WAIT
            self.claimed = claimed
            if prepare is not None:
                prepare(id_of(claimed))
            return id_of(claimed)

    def _claim_waiting(self, trials: Sequence[FrozenTrial], locked: bool) -> FrozenTrial | None:
        # By the number of the first attempt: interrupted trials resume before any other trial starts.
        waiting = self.paused.of_queue(self.tally.startable(self.budget), trials)
        for trial in sorted(waiting, key=first_number):
            if not locked and self._is_about_to_start(trial):
                continue
            if (started := self.start_waiting(trial)) is not None:
                return started
        return None

    def start_waiting(self, trial: FrozenTrial) -> FrozenTrial | None:
        """Make a waiting trial this worker's running one; None if another worker was faster."""
        try:
            if self._start(id_of(trial)):
                self.storage.set_trial_system_attr(id_of(trial), OWNER, self.worker_id.to_stored())
                return self._as_started(self.storage.get_trial(id_of(trial)))
        except UpdateFinishedTrialError:
            # On SQLite behind a proxy, two workers may start the same trial. The other one has finished it by now.
            pass
        return None

    def _is_about_to_start(self, trial: FrozenTrial) -> bool:
        """Whether the worker that created this trial without a lock is probably just about to start it."""
        owner = WorkerId.from_stored(trial.system_attrs.get(OWNER))
        if owner is None or owner == self.worker_id or owner.has_exited():
            return False
        return self.staleness.seconds_unchanged(("created", id_of(trial)), True) <= _ORPHAN_SECONDS

    def start_new(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """Create a trial within the budget and start it; None if there is no budget left."""
        # It is created as waiting, not as running: if two workers do this at once without the lock, the trial beyond
        # the budget stays in the queue, where every claim ignores it.
        new = optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={OWNER: self.worker_id.to_stored()})
        trial_id = self.storage.create_new_trial(self.study_id, new)
        if self._is_next(trial_id, trials):
            trial = identify(new, len(trials), trial_id)
        else:
            self.seen = self.trials()
            startable = {id_of(trial): trial for trial in self.tally.startable(self.budget)}
            if trial_id not in startable:
                return None
            trial = startable[trial_id]
        return self._as_started(trial) if self._start(trial_id) else None

    def _is_next(self, trial_id: int, trials: Sequence[FrozenTrial]) -> bool:
        """Whether this new trial directly follows the trials that were read.

        If so, no other trial was created in between. A trial that stops using budget never uses it again, so what was
        read is enough to know that this one may start, even if the lock was lost in the meantime.
        """
        try:
            return trial_id == int(self.storage.get_trial_id_from_study_id_trial_number(self.study_id, len(trials)))
        except KeyError:
            return False

    def _as_started(self, trial: FrozenTrial) -> FrozenTrial:
        started = copy.deepcopy(trial)
        started.state, started.datetime_start = TrialState.RUNNING, datetime.datetime.now()  # noqa: DTZ005 - as in Optuna
        started.system_attrs = {**started.system_attrs, OWNER: self.worker_id.to_stored()}
        return started

    def _start(self, trial_id: int) -> bool:
        self._starting = trial_id
        try:
            with self.shared.exclusive():
                return bool(self.storage.set_trial_state_values(trial_id, TrialState.RUNNING))
        except UpdateFinishedTrialError:
            return False

    # ---- releasing and requeueing

    def requeue_stale(self, fresh: bool = True) -> bool:
        """Requeue the trials of dead workers, or let them fail if their workers died too often.

        Args:
            fresh: whether to read the trials first.

        Returns:
            Whether anything changed.
        """
        with self._mutex:
            if fresh:
                self.trials()
            changed = False
            running, orphans = self.tally.running(), self.tally.orphans()
            for trial in running:
                owner = WorkerId.from_stored(trial.system_attrs.get(OWNER))
                state = (trial.system_attrs.get(OWNER), trial.system_attrs.get(ALIVE))
                if self.staleness.is_dead(id_of(trial), owner, state, self.worker_id.heartbeat):
                    reason, worker_died = self._cause_of_death(owner)
                    changed = self.release(id_of(trial), reason, worker_died) or changed
            return self._requeue_orphans(orphans) or changed

    def _cause_of_death(self, owner: WorkerId | None) -> tuple[str, bool]:
        """Why the worker of a trial is gone, and whether that counts as a retry of the trial."""
        if owner is None:
            # A worker that died before it could store its id had not started the task.
            return "its worker died before it began", False
        if self.stop_signal is not None and owner.launch_id == self.worker_id.launch_id:
            return f"stopped by {signal.Signals(self.stop_signal).name}", False
        return "its worker died", True

    def release(self, trial_id: int, reason: str, worker_died: bool = False) -> bool:
        """End this attempt without a result and requeue the trial.

        Args:
            trial_id: id of the running trial.
            reason: why, in a few words.
            worker_died: whether this counts as a retry; if there are too many, the trial fails instead.

        Returns:
            False if another process ended the attempt before.
        """
        with self._mutex:
            trials = self.trials()
            trial = next((t for t in trials if id_of(t) == trial_id), None)
            if trial is None or trial.state != TrialState.RUNNING:
                return False
            deaths = worker_deaths(trials, trial) + worker_died
            final = worker_died and deaths > self.budget.max_retries
            note: dict[str, Any] = {"reason": reason, "counted": worker_died, "final": final}
            try:
                self.storage.set_trial_system_attr(trial_id, INTERRUPTED, note)
                if final:
                    self.storage.set_trial_user_attr(trial_id, FAILURE, f"{reason}, {deaths} times")
                with self.shared.exclusive():
                    self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            except UpdateFinishedTrialError:
                return False
            ended = self.storage.get_trial(trial_id)
            if final:
                self.ended.append(ended)
            else:
                self._requeue(ended)
            return True

    def release_own(self, reason: str) -> None:
        """Release whatever this process still runs; a signal may have arrived between claiming and running."""
        stored = self.worker_id.to_stored()
        for trial in self.trials():
            has_no_owner_yet = id_of(trial) == self._starting and OWNER not in trial.system_attrs
            if trial.state == TrialState.RUNNING and (has_no_owner_yet or trial.system_attrs.get(OWNER) == stored):
                self.release(id_of(trial), reason)

    def pop_ended(self) -> list[FrozenTrial]:
        """The trials that this queue ended since the last call: workers kept dying, or nothing continued them."""
        trials, self.ended = self.ended, []
        return trials

    def _requeue_orphans(self, orphans: Sequence[FrozenTrial]) -> bool:
        requeued = False
        for trial in orphans:
            if self.staleness.seconds_unchanged(("orphan", id_of(trial)), True) > _ORPHAN_SECONDS:
                self._requeue(trial)
                requeued = True
        return requeued

    def _requeue(self, trial: FrozenTrial) -> None:
        self.storage.create_new_trial(self.study_id, next_attempt(trial))

    @contextmanager
    def finishing(self, trial_id: int) -> Iterator[None]:
        """Give the end of this running trial its number among all ends, and lock the study while the block ends it."""
        with self.shared.lock(self.study_name):
            completion = self.storage.next_completion(self.study_id, self.tally)
            self.storage.set_trial_system_attr(trial_id, COMPLETION, completion)
            yield
