"""One worker's view of the study's trials: claim one, give one back, take one over from the dead."""

import copy
import dataclasses
import datetime
import enum
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ._attrs import ALIVE, COMPLETION, EXHAUSTED, FAILURE, FIRST_ATTEMPT, INTERRUPTED, JOB_DIR, OWNER, RETRY_HISTORY
from ._budget import (
    Counts,
    Rules,
    count,
    counted_attempts,
    first_number,
    is_interrupted,
    may_start,
    next_completion,
    places_held,
    why_stop,
)
from ._owner import Owner, Watch
from ._patient import outages_of
from ._store import Store

# An attempt that ended without being queued again: its finder died in between. After so many seconds anybody may.
_ORPHAN_SECONDS = 10.0
# What an attempt's successor does not inherit.
_OF_ONE_ATTEMPT = (OWNER, ALIVE, INTERRUPTED, COMPLETION)


class Next(enum.Enum):
    """What a worker does when it got no trial."""

    WAIT = "others still run trials, one of which may come back"
    DONE = "the study has all its trials, or stops"


@dataclasses.dataclass(frozen=True)
class Standing:
    """Where the study is. `stopped` says why no further trial starts although budget may be left."""

    counts: Counts
    complete: bool
    stopped: str | None

    @property
    def over(self) -> bool:
        return self.complete or self.stopped is not None


class Ledger:
    """Args:
    owner: who this process is; the command itself has worker -1.
    """

    def __init__(self, store: Store, study_name: str, rules: Rules, owner: Owner) -> None:
        self.store = store
        self.storage = store.storage
        self.study_name = study_name
        self.study_id = self.storage.get_study_id_from_name(study_name)
        self.rules = rules
        self.owner = owner
        self.watch = Watch(outages_of(self.storage))
        # The signal on which this command ends its launch: workers that die from now on are no deaths of their trials.
        self.stopping: int | None = None
        # Trials that this ledger found to have died too often; whoever owns it tells the callbacks.
        self.buried: list[FrozenTrial] = []
        # What the last claim saw of the study, and the claimed trial as it is since.
        self.seen: list[FrozenTrial] = []
        self.claimed: FrozenTrial | None = None
        # The trial that this process started last: a signal may come before its name is on it.
        self._starting: int | None = None
        self._maximize = self.storage.get_study_directions(self.study_id)[0] == StudyDirection.MAXIMIZE
        self._single = len(self.storage.get_study_directions(self.study_id)) == 1
        # The watch and the requeueing are used by the worker's loop and by its vigil or follower.
        self._mutex = threading.RLock()

    def note_stop(self, signum: int) -> None:
        self.stopping = signum

    def trials(self) -> list[FrozenTrial]:
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def standing(self, trials: Sequence[FrozenTrial] | None = None) -> Standing:
        trials = self.trials() if trials is None else trials
        counts = count(trials, self.owner.launch)
        finished = counts.finished
        if self.rules.failures_count:
            finished += counts.failed + counts.failed_before
        complete = finished >= self.rules.n_trials
        rules = self.rules if self._single else dataclasses.replace(self.rules, patience=None)
        stopped = None if complete else why_stop(trials, rules, self.owner.launch, self._maximize)
        if not complete and stopped is None and not (counts.running or counts.waiting) and self._is_exhausted():
            stopped = "every combination of values has been tried"
        return Standing(counts, complete, stopped)

    def _is_exhausted(self) -> bool:
        return self.rules.failures_count and bool(
            self.storage.get_study_system_attrs(self.study_id).get(EXHAUSTED, False)
        )

    def claim(self, prepare: Callable[[int], Any] | None = None) -> int | Next:
        """Take the next trial of the budget, by its id; from then on it is running and this worker's.

        Args:
        prepare: called with the id while the study's lock is held, for samplers whose draws must not overlap.
        """
        with self.store.lock(self.study_name) as held:
            trials = self.trials()
            if self.take_over(trials):
                trials = self.trials()
            if self.standing(trials).over:
                return Next.DONE
            self.seen = trials
            claimed = self._claim_waiting(trials, held)
            room = places_held(trials, self.rules) < self.rules.n_trials
            if claimed is None and room and not self._is_exhausted():
                claimed = self._claim_new(trials)
            if claimed is None:
                return Next.WAIT
            self.claimed = claimed
            if prepare is not None:
                prepare(claimed._trial_id)
            return claimed._trial_id

    def _claim_waiting(self, trials: Sequence[FrozenTrial], held: bool) -> FrozenTrial | None:
        # By the number of the first attempt: what was interrupted goes on before anything else begins.
        for trial in sorted(may_start(trials, self.rules), key=first_number):
            if not held and self._is_about_to_start(trial):
                continue
            try:
                if self._start(trial._trial_id):
                    self.storage.set_trial_system_attr(trial._trial_id, OWNER, self.owner.stored())
                    return self._started(trial)
            except UpdateFinishedTrialError:
                # On sqlite behind a proxy two workers may start one trial, and the other has finished it by now.
                continue
        return None

    def _is_about_to_start(self, trial: FrozenTrial) -> bool:
        """Whether the worker that created this trial, without a lock, is probably just about to start it."""
        owner = Owner.read(trial.system_attrs.get(OWNER))
        if owner is None or owner == self.owner or owner.is_gone():
            return False
        return self.watch.unchanged_for(("created", trial._trial_id), True) <= _ORPHAN_SECONDS

    def _claim_new(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        # Created waiting, not running: should two workers do this at once without the lock, the one beyond the budget
        # stays in the queue, where it is passed over.
        template = optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={OWNER: self.owner.stored()})
        trial_id = self.storage.create_new_trial(self.study_id, template)
        if self._is_next(trial_id, trials):
            trial = template
            trial.number, trial._trial_id = len(trials), trial_id
        else:
            self.seen = self.trials()
            startable = {trial._trial_id: trial for trial in may_start(self.seen, self.rules)}
            if trial_id not in startable:
                return None
            trial = startable[trial_id]
        return self._started(trial) if self._start(trial_id) else None

    def _is_next(self, trial_id: int, trials: Sequence[FrozenTrial]) -> bool:
        """Whether this new trial directly follows those seen.

        Then nobody created one in between, and because a place given up is never taken back, what was seen is enough to
        know that this one may start. That needs no lock: its holder may have been stopped until others went on.
        """
        try:
            return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, len(trials)) == trial_id
        except KeyError:
            return False

    def _started(self, trial: FrozenTrial) -> FrozenTrial:
        mine = copy.deepcopy(trial)
        mine.state, mine.datetime_start = TrialState.RUNNING, datetime.datetime.now()  # noqa: DTZ005 - as Optuna does
        mine.system_attrs = {**mine.system_attrs, OWNER: self.owner.stored()}
        return mine

    def _start(self, trial_id: int) -> bool:
        self._starting = trial_id
        try:
            with self.store.exclusive():
                return self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def take_over(self, trials: Sequence[FrozenTrial] | None = None) -> bool:
        """Queue the trials of dead workers again, or end them as failed when they died too often.

        Returns:
            Whether anything changed.
        """
        with self._mutex:
            trials, changed = self.trials() if trials is None else trials, False
            for trial in trials:
                if trial.state != TrialState.RUNNING:
                    continue
                owner = Owner.read(trial.system_attrs.get(OWNER))
                sign = (trial.system_attrs.get(OWNER), trial.system_attrs.get(ALIVE))
                if self.watch.is_dead(trial._trial_id, owner, sign, self.owner.heartbeat):
                    reason, counted = self._cause(owner)
                    changed = self.interrupt(trial._trial_id, reason, counted) or changed
            return self._queue_orphans(trials) or changed

    def _cause(self, owner: Owner | None) -> tuple[str, bool]:
        """Why a trial without signs of life ended, and whether that counts against it."""
        if owner is None:
            # A worker that died before it could write its name had not begun the trial.
            return "its worker died before it began", False
        if self.stopping is not None and owner.launch == self.owner.launch:
            return f"stopped by {signal.Signals(self.stopping).name}", False
        return "its worker died", True

    def interrupt(self, trial_id: int, reason: str, counted: bool) -> bool:
        """End this attempt without a result and queue the trial again, unless it was interrupted too often.

        Returns:
            False when somebody else ended the attempt before.
        """
        with self._mutex:
            trials = self.trials()
            trial = next((t for t in trials if t._trial_id == trial_id), None)
            if trial is None or trial.state != TrialState.RUNNING:
                return False
            deaths = counted_attempts(trials, trial) + counted
            final = counted and deaths > self.rules.max_retries
            note: dict[str, Any] = {"reason": reason, "counted": counted, "final": final}
            try:
                self.storage.set_trial_system_attr(trial_id, INTERRUPTED, note)
                if final:
                    self.storage.set_trial_user_attr(trial_id, FAILURE, f"{reason}, {deaths} times")
                with self.store.exclusive():
                    self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            except UpdateFinishedTrialError:
                return False
            ended = self.storage.get_trial(trial_id)
            if final:
                self.buried.append(ended)
            else:
                self._queue_again(ended)
            return True

    @contextmanager
    def completing(self, trial_id: int) -> Iterator[None]:
        """Number the end of this running trial among all ends, and hold the study's lock while the block ends it."""
        with self.store.lock(self.study_name):
            self.storage.set_trial_system_attr(trial_id, COMPLETION, next_completion(self.trials()))
            yield

    def give_back_mine(self, reason: str) -> None:
        """Give back whatever this process still runs; a signal may have come between claiming and running."""
        mine = self.owner.stored()
        for trial in self.trials():
            nameless = trial._trial_id == self._starting and OWNER not in trial.system_attrs
            if trial.state == TrialState.RUNNING and (nameless or trial.system_attrs.get(OWNER) == mine):
                self.interrupt(trial._trial_id, reason, counted=False)

    def reserve_directory(self, number: int, wanted: str, store: Callable[[str], None]) -> tuple[str, bool]:
        """A job directory that no other trial of the study has: the wanted one, or that with `_<number>` after it.

        Args:
        number: of the trial's first attempt.
        store: writes the directory down with the trial.

        Returns:
            The directory, and whether it is the first of the study that had to be renamed.
        """
        with self.store.lock(self.study_name) as held:
            others = self._other_directories(number)
            chosen = _free_directory(wanted, number, others)
            store(chosen)
            if not held and chosen in self._other_directories(number):
                # Without a lock another worker may have chosen it in the same moment; both give way then.
                chosen = _free_directory(wanted, number, {*self._other_directories(number), wanted})
                store(chosen)
        return chosen, chosen != wanted and not any(_is_renamed(path, others) for path in others)

    def _other_directories(self, number: int) -> dict[str, int]:
        """The job directories of all trials but this one, with the trials' numbers."""
        known = [(trial.user_attrs.get(JOB_DIR), first_number(trial)) for trial in self.trials()]
        return {path: first for path, first in known if path is not None and first != number}

    def take_buried(self) -> list[FrozenTrial]:
        """The trials found to have failed for good since the last call."""
        buried, self.buried = self.buried, []
        return buried

    def _queue_orphans(self, trials: Sequence[FrozenTrial]) -> bool:
        queued = False
        continued = {history[-1] for t in trials if (history := t.system_attrs.get(RETRY_HISTORY))}
        for trial in trials:
            if not is_interrupted(trial) or trial.number in continued:
                continue
            if self.watch.unchanged_for(("orphan", trial._trial_id), True) > _ORPHAN_SECONDS:
                self._queue_again(trial)
                queued = True
        return queued

    def _queue_again(self, trial: FrozenTrial) -> None:
        """Create the next attempt, with everything the last one had: parameters, reports and the user's notes."""
        attrs = {key: value for key, value in trial.system_attrs.items() if key not in _OF_ONE_ATTEMPT}
        attrs[FIRST_ATTEMPT] = first_number(trial)
        attrs[RETRY_HISTORY] = [*attrs.get(RETRY_HISTORY, ()), trial.number]
        self.storage.create_new_trial(
            self.study_id,
            optuna.trial.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs=trial.user_attrs,
                system_attrs=attrs,
                intermediate_values=trial.intermediate_values,
            ),
        )

    def note_exhausted(self) -> None:
        self.storage.set_study_system_attr(self.study_id, EXHAUSTED, True)


def _free_directory(wanted: str, number: int, taken: Collection[str]) -> str:
    chosen = wanted
    while chosen in taken:
        chosen = f"{chosen}_{number}"
    return chosen


def _is_renamed(path: str, directories: Mapping[str, int]) -> bool:
    suffix = f"_{directories[path]}"
    return path.endswith(suffix) and path.removesuffix(suffix) in directories
