"""MergedAttempts: the trials of a study as samplers and pruners see them."""

from bisect import bisect_left
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from .._budget import as_shown, attempt_of, first_number, merge_attempts
from ._follower import Follower


class MergedAttempts(Follower):
    """`merge_attempts` of each read: `MergedAttempts()(trials)`."""

    def __init__(self) -> None:
        super().__init__()
        self._forget()

    def _forget(self) -> None:
        # Sorted by the number that is shown, and for equal ones by that in the storage.
        self._keys: list[tuple[int, int]] = []
        self._shown: list[FrozenTrial] = []
        self._key_of: dict[int, tuple[int, int]] = {}
        self._retries: list[int] = []

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        self.update(trials)
        return self._shown.copy() if self._is_valid else merge_attempts(trials)

    def _see_new(self, trial: FrozenTrial) -> None:
        if attempt_of(trial):
            self._retries.append(trial.number)

    def _see(self, trial: FrozenTrial) -> None:
        if trial.number in self._continued:
            return
        key = self._key_of.get(trial.number) or (self._number_shown(trial), trial.number)
        position = bisect_left(self._keys, key)
        shown = as_shown(trial, key[0])
        if trial.number in self._key_of:
            self._shown[position] = shown
        else:
            self._key_of[trial.number] = key
            self._keys.insert(position, key)
            self._shown.insert(position, shown)

    def _number_shown(self, trial: FrozenTrial) -> int:
        """The number that the trial would have if retries had none."""
        first = first_number(trial)
        position = bisect_left(self._retries, first)
        is_first = self._retries[position : position + 1] != [first]
        return first - position if is_first else trial.number

    def _see_continued(self, number: int) -> None:
        key = self._key_of.pop(number, None)
        if key is not None:
            position = bisect_left(self._keys, key)
            del self._keys[position], self._shown[position]
