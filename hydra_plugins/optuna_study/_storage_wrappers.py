"""Wrappers of an Optuna storage: one retries while the server is unreachable, one caches the worker's own trial."""

import copy
import random
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ._history._database import DatabaseReader
from ._history._merged import MergedAttempts
from ._history._tally import Tally
from ._optuna import STORAGE_OPERATIONS, CachedTrials, delegating_storage, id_of

# Longest time in seconds between two attempts. Every process has tried again this long after the server is back.
LONGEST_PAUSE = 5.0
# An operation that takes longer than this many seconds hung: on a lock, a dead connection, or a stopped server.
_HUNG_SECONDS = 1.0
# Errors with one of these texts do not go away by waiting.
_PERMANENT = ("no such table", "authentication failed", "does not exist", "no such column", "readonly", "read-only")


class Outages:
    """Total time in which this process could not read the storage. The silence of other workers then means nothing.

    If several threads are blocked at the same time, each second counts once.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._until = 0.0
        self._lock = threading.Lock()

    def add(self, begin: float, end: float) -> None:
        """Count the time between two values of `time.monotonic()`."""
        with self._lock:
            self.seconds += max(0.0, end - max(begin, self._until))
            self._until = max(self._until, end)

    def add_oversleep(self, due: float) -> None:
        """Count the time since a thread should have woken, if it is long: its process or machine was stopped."""
        now = time.monotonic()
        if now - due > _HUNG_SECONDS:
            self.add(due, now)

    @contextmanager
    def measuring(self) -> "Iterator[Attempts]":
        """Count the time of the block if its operation failed at first, or hung."""
        attempts, begin = Attempts(), time.monotonic()
        try:
            yield attempts
        finally:
            end = time.monotonic()
            if attempts.failed or end - begin > _HUNG_SECONDS:
                self.add(begin, end)


class Attempts:
    """`failed` is the number of failed attempts at one operation."""

    failed = 0


def is_transient(error: BaseException) -> bool:
    """Whether an error of a storage means that its server is unreachable now and may be reachable again soon."""
    link: BaseException | None = error
    while link is not None:
        if _is_transient(link):
            return True
        link = link.__cause__ or link.__context__
    return False


def is_storage_error(error: BaseException) -> bool:
    """Whether an error comes from the storage itself, so that it says nothing about the trial."""
    return isinstance(error, StorageInternalError) or type(error).__module__.startswith(
        ("sqlalchemy", "sqlite3", "psycopg", "pymysql", "grpc")
    )


def _is_transient(error: BaseException) -> bool:
    module, name = type(error).__module__, type(error).__name__
    if module.startswith("sqlalchemy"):
        message = str(error).lower()
        if name in ("OperationalError", "InterfaceError", "TimeoutError", "DisconnectionError"):
            return not any(words in message for words in _PERMANENT)
        return bool(getattr(error, "connection_invalidated", False))
    if module.startswith("grpc"):
        code = getattr(error, "code", None)
        return callable(code) and getattr(code(), "name", "") in ("UNAVAILABLE", "UNKNOWN")
    return False


def retry_while_unreachable(operation: Callable[[], Any], seconds: float, outages: Outages | None = None) -> Any:
    """Call the operation until it succeeds.

    Args:
        operation: what to call.
        seconds: time after which a transient error is raised; all other errors are raised at once.
        outages: counts the time in which the operation failed.
    """
    pause, give_up = 0.05, time.monotonic() + seconds
    with (outages or Outages()).measuring() as attempts:
        while True:
            try:
                return operation()
            except Exception as error:
                if not is_transient(error) or time.monotonic() + pause > give_up:
                    raise
            attempts.failed += 1
            # With jitter, so that the workers do not all return at the same moment.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)


class _Retrying:
    def __init__(self, inner: BaseStorage, seconds: float) -> None:
        self.inner = inner
        self.seconds = seconds
        self.outages = Outages()
        self._reader = DatabaseReader(inner) if CachedTrials.are_in(inner) else None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if (reader := self._reader) is None:
            return list(self.retry(lambda: self.inner.get_all_trials(study_id, deepcopy, states)))
        trials = self.retry(lambda: reader.trials(study_id))
        wanted = trials if states is None else [trial for trial in trials if trial.state in states]
        return copy.deepcopy(wanted) if deepcopy else wanted

    def next_completion(self, study_id: int, tally: Tally) -> int:
        """The completion counter of the trial that ends next.

        Args:
            study_id: id of the study.
            tally: what this process knows of the study; where all trials must be read, it follows.
        """
        if (reader := self._reader) is not None:
            return int(self.retry(lambda: reader.next_completion(study_id, tally)))
        tally.update(self.get_all_trials(study_id, deepcopy=False))
        return tally.next_completion()

    def retry(self, operation: Callable[[], Any]) -> Any:
        return retry_while_unreachable(operation, self.seconds, self.outages)


def _retried(name: str) -> Callable[..., Any]:
    def call(self: _Retrying, *args: Any, **kwargs: Any) -> Any:
        return self.retry(lambda: getattr(self.inner, name)(*args, **kwargs))

    return call


_RETRYING: Any = type(
    "RetryingStorage",
    (_Retrying, BaseStorage),
    {name: _retried(name) for name in STORAGE_OPERATIONS if not hasattr(_Retrying, name)},
)


def retrying(inner: BaseStorage, seconds: float) -> BaseStorage:
    """The same storage, whose operations are retried for this many seconds while the server is unreachable.

    An operation may have taken effect although its answer was lost. That is safe here: what is created twice is a
    waiting trial, which the budget ignores, and a process that sets a state checks it if the second attempt is refused.
    """
    wrapped: BaseStorage = _RETRYING(inner, seconds)
    return wrapped


def outages_of(storage: BaseStorage) -> Outages:
    """The outages of a retrying storage; other storages do not count theirs."""
    outages: Outages = getattr(storage, "outages", None) or Outages()
    return outages


class _TrialCache:
    """A worker's view of the storage, in which its own running trial is read from memory.

    No other process writes to a running trial unless its worker was declared dead, and then the storage refuses every
    write of that worker. So what was written here need not be read back, which would cost six queries each time.
    Samplers and pruners see the attempts of a trial as one trial.

    Args:
        inner: the storage, which receives every write and answers all other reads.
    """

    def __init__(self, inner: BaseStorage) -> None:
        self.inner = inner
        self.merge = MergedAttempts()
        self._study_ids: dict[str, int] = {}
        self._cached: FrozenTrial | None = None

    def cache(self, trial: FrozenTrial, number: int | None = None) -> None:
        """Answer for this running trial from memory until its state changes.

        Args:
            trial: the trial as stored.
            number: the number under which samplers and pruners see it, if it is not the stored one.
        """
        self._cached = copy.deepcopy(trial)
        if number is not None:
            self._cached.number = number

    def get_study_id_from_name(self, study_name: str) -> int:
        if study_name not in self._study_ids:
            self._study_ids[study_name] = self.inner.get_study_id_from_name(study_name)
        return self._study_ids[study_name]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        cached = self._cached_trial(trial_id)
        return copy.deepcopy(cached) if cached is not None else self.inner.get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self.merge(self.inner.get_all_trials(study_id, deepcopy=False))
        wanted = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(wanted) if deepcopy else wanted

    # Optuna's own versions of these call get_trial.
    get_trial_param = BaseStorage.get_trial_param
    get_trial_params = BaseStorage.get_trial_params
    get_trial_user_attrs = BaseStorage.get_trial_user_attrs
    get_trial_system_attrs = BaseStorage.get_trial_system_attrs
    get_trial_number_from_id = BaseStorage.get_trial_number_from_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self.inner.set_trial_param(trial_id, param_name, param_value_internal, distribution)
        cached = self._cached_trial(trial_id)
        if cached is not None:
            cached.params = {**cached.params, param_name: distribution.to_external_repr(param_value_internal)}
            cached.distributions = {**cached.distributions, param_name: distribution}

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.inner.set_trial_user_attr(trial_id, key, value)
        cached = self._cached_trial(trial_id)
        if cached is not None:
            cached.user_attrs = {**cached.user_attrs, key: value}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.inner.set_trial_system_attr(trial_id, key, value)
        cached = self._cached_trial(trial_id)
        if cached is not None:
            cached.system_attrs = {**cached.system_attrs, key: value}

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self.inner.set_trial_intermediate_value(trial_id, step, intermediate_value)
        cached = self._cached_trial(trial_id)
        if cached is not None:
            cached.intermediate_values = {**cached.intermediate_values, step: intermediate_value}

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        try:
            return self.inner.set_trial_state_values(trial_id, state, values)
        finally:
            # Whether it succeeded or was refused, from now on only the storage knows the state.
            if self._cached_trial(trial_id) is not None:
                self._cached = None

    def _cached_trial(self, trial_id: int) -> FrozenTrial | None:
        cached = self._cached
        return cached if cached is not None and id_of(cached) == trial_id else None


TrialCache: Any = delegating_storage("TrialCache", _TrialCache)
