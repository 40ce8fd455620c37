"""`hydra.sweeper.stop_when=noise`: the study ends when what may still be gained is less than the noise hides.

Makarova et al. (AutoML-Conf 2022, arXiv 2104.08166) end a search when the bound of its regret falls below the standard
deviation of the value that it optimizes. Here the regret is the expected one, by the model that recommends a trial.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from .._budget import NOISE, STANDARD_ERROR, feasible_trials, first_number
from ._lines import print_line
from ._recommendation import LEAST, expected_gain

if TYPE_CHECKING:
    from .._queue import TrialQueue


class NoiseStop:
    """Knows whether the study ends because of noise. One process computes it after each complete trial, for all.

    Args:
        queue: the queue of the study.
        maximize: its direction.
    """

    def __init__(self, queue: "TrialQueue", maximize: bool) -> None:
        self._queue = queue
        self._sign = 1.0 if maximize else -1.0
        self._has_warned = False

    def check(self, trials: Sequence[FrozenTrial]) -> None:
        """Compute what the trials say, if no process has done so since the last one completed."""
        finals = {first_number(each): self._sign * each.values[0] for each in feasible_trials(trials) if each.values}
        found = self._found()
        if len(finals) < LEAST or found.get("complete") == len(finals):
            return
        error = _standard_error_of_best(trials, finals)
        if error is None:
            if not self._has_warned:
                self._has_warned = True
                print_line("stop_when=noise ends nothing, because the task does not call trial.set_standard_error")
            return
        gain = expected_gain(self._queue.paused.curves(trials), finals)
        found = {"complete": len(finals), "gain": gain, "standard_error": error}
        self._queue.storage.set_study_system_attr(self._queue.study_id, NOISE, found)

    def reason(self) -> str | None:
        """Why the study ends, with the numbers; None if it does not."""
        found = self._found()
        gain, error = found.get("gain"), found.get("standard_error", 0.0)
        if gain is None or gain >= error:
            return None
        return (
            f"the best configuration is expected to be {gain:.2g} better than the recommended trial, less than the "
            f"standard error of its value, {error:.2g}"
        )

    def _found(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._queue.storage.get_study_system_attrs(self._queue.study_id).get(NOISE, {})
        return found


def _standard_error_of_best(trials: Sequence[FrozenTrial], finals: Mapping[int, float]) -> float | None:
    """That of the best complete trial whose task said it."""
    known = [
        (finals[first_number(trial)], trial.system_attrs[STANDARD_ERROR])
        for trial in trials
        if trial.state == TrialState.COMPLETE and STANDARD_ERROR in trial.system_attrs and first_number(trial) in finals
    ]
    return float(max(known)[1]) if known else None
