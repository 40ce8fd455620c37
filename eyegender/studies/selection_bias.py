"""What the best of many trials owes to luck, from the validation predictions that each trial left in its folder."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.command_line.durations import duration_text
from eyegender.models.intervals import Interval, bootstrap_interval, person_numbers
from eyegender.studies.winner import trial_folder
from eyegender.tracking.predictions import VAL_PREDICTIONS_FILE, Predictions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import optuna
    from numpy.typing import NDArray

    from hydra_plugins.optuna_study import StudyStatus, TrialRow

FOLDS, REPEATS = 3, 40
_Z = 1.959964  # of a 95% interval
_ROUNDING = 1e-4  # a metric of float32 against the share of correct images


@dataclass(frozen=True)
class SelectionBias:
    """How far the best validation accuracy of a study can be relied on.

    Args:
        best: the trial with the best accuracy.
        n_trials: number of complete trials that it was chosen from.
        observed: its validation accuracy, in 0..1.
        corrected: the accuracy corrected for the choice, with its 95% interval.
        default: the first enqueued trial, if there is one with predictions.
        gain: accuracy of the best trial minus that of `default`, corrected for the choice, with its 95% interval.
        equal: trials that cannot be told from the best one: the 95% interval of the difference contains 0.
        cheapest: the one of `best` and `equal` that took the fewest seconds.
    """

    best: TrialRow
    n_trials: int
    observed: float
    corrected: Interval
    default: TrialRow | None
    gain: Interval | None
    equal: Sequence[TrialRow]
    cheapest: TrialRow

    @property
    def sentences(self) -> list[str]:
        """What a reader should know, in plain words."""
        value, low, high = (f"{100 * each:.1f}" for each in self.corrected)
        is_best = "ties for" if any(trial.values == self.best.values for trial in self.equal) else "is"
        found = [
            f"Trial {self.best.number} {is_best} the best of {self.n_trials} on the validation set, with "
            f"{100 * self.observed:.1f}%. Corrected for that choice, its accuracy is {value}% ({low} to {high})."
        ]
        if self.default is None:
            found.append("No enqueued configuration is complete, so there is no default to compare with.")
        elif self.default.number == self.best.number:
            found.append("It is the enqueued configuration itself.")
        elif self.gain is not None:
            points = f"{100 * self.gain.value:+.1f} points ({100 * self.gain.low:+.1f} to {100 * self.gain.high:+.1f})"
            better = "It is better than" if self.gain.low > 0 else "There is no evidence that it is better than"
            found.append(f"{better} the enqueued configuration, trial {self.default.number}: {points}.")
        if self.equal:
            count = len(self.equal)
            found.append(f"{count} other trial{'s' * (count > 1)} cannot be told from it.")
            # Seconds of equal trials differ a little, too.
            if self.cheapest.seconds and self.best.seconds and self.cheapest.seconds < 0.9 * self.best.seconds:
                found.append(
                    f"The cheapest of them is trial {self.cheapest.number}: {duration_text(self.cheapest.seconds)} "
                    f"instead of {duration_text(self.best.seconds)}."
                )
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.best.number,
            "of": self.n_trials,
            "observed": self.observed,
            "corrected": list(self.corrected),
            "default": None if self.default is None else self.default.number,
            "gain": None if self.gain is None else list(self.gain),
            "equal": [trial.number for trial in self.equal],
            "cheapest": self.cheapest.number,
        }


def selection_bias(study: optuna.Study, status: StudyStatus, folder: Path) -> SelectionBias | None:
    """The bias of a study whose objective is the validation accuracy; None if it cannot be known.

    It is unknown with several objectives, with an objective other than the validation accuracy, and with fewer than two
    complete trials whose predictions can be read and are for the same images.

    Args:
        study: Optuna's study, which knows the enqueued trials.
        status: its state.
        folder: folder of the sweep.
    """
    if status.directions != ("maximize",):
        return None
    read = [(trial, read_predictions(trial_folder(trial, folder) / VAL_PREDICTIONS_FILE)) for trial in status.best]
    found = [(trial, predictions) for trial, predictions in read if predictions is not None]
    if not found:
        return None
    most = Counter(predictions.fingerprint for _, predictions in found).most_common(1)[0][0]
    found = [(trial, predictions) for trial, predictions in found if predictions.fingerprint == most]
    trials, tables = [trial for trial, _ in found], [predictions.sorted() for _, predictions in found]
    correct = np.array([table.correct for table in tables])
    if len(trials) < 2 or any(
        abs(trial.values[0] - share) > _ROUNDING for trial, share in zip(trials, correct.mean(axis=1), strict=True)
    ):
        return None
    counts, sizes = by_person(correct, tables[0].persons)
    accuracies = correct.mean(axis=1)
    best = int(accuracies.argmax())
    by_number = sorted(range(len(trials)), key=lambda i: trials[i].number)
    default = next((i for i in by_number if _is_enqueued(study, trials[i])), None)
    equal = [i for i in range(len(trials)) if i != best and _cannot_be_told(counts, sizes, best, i)]
    cheapest = min([best, *equal], key=lambda i: (trials[i].seconds or float("inf"), i != best))
    return SelectionBias(
        best=trials[best],
        n_trials=len(trials),
        observed=float(accuracies[best]),
        corrected=corrected_best(counts, sizes),
        default=None if default is None else trials[default],
        gain=None if default in (None, best) else corrected_best(counts - counts[:, [default]], sizes, is_share=False),
        equal=[trials[i] for i in equal],
        cheapest=trials[cheapest],
    )


def by_person(
    correct: NDArray[np.bool_], persons: Sequence[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correct images and images of each person.

    Args:
        correct: whether each of T trials classifies each of N images correctly, shape (T, N).
        persons: person on each image; None if unknown, so that each image counts as one person.

    Returns:
        Arrays of shape (P, T) and (P,).
    """
    numbers = person_numbers(persons, correct.shape[1])
    counts = np.zeros((int(numbers.max()) + 1, len(correct)))
    np.add.at(counts, numbers, correct.T)
    return counts, np.bincount(numbers, minlength=len(counts)).astype(float)


def corrected_best(
    counts: NDArray[np.float64], sizes: NDArray[np.float64], *, is_share: bool = True, seed: int = 0
) -> Interval:
    """The accuracy of the best of T trials, corrected for having been chosen, with its 95% interval.

    The persons are divided into folds. On all folds but one, the best trial is chosen; on the remaining one, it is
    evaluated. So no image helps to choose the trial that it evaluates. Repeated with other folds, the mean is an almost
    unbiased estimate of what the choice is worth (S. Varma and R. Simon, BMC Bioinformatics 7:91, 2006; I. Tsamardinos
    et al., Machine Learning 107, 2018, choose and evaluate on bootstrap samples). The interval is the normal one of a
    mean over persons, for a share on the scale of log odds. `python -m benchmarks.selection_bias` tells bias and
    coverage in studies with a known truth.

    Args:
        counts: correct images by person and trial, shape (P, T), or differences from a trial.
        sizes: images by person, shape (P,).
        is_share: whether the result is in 0..1, and no difference.
        seed: seed of the divisions.
    """
    rng, (persons, _), total = np.random.default_rng(seed), counts.shape, sizes.sum()
    folds, sums = min(FOLDS, persons), counts.sum(axis=0)
    if folds < 2:
        return Interval(float(sums.max() / total), float("nan"), float("nan"))
    values, variances = [], []
    for _ in range(REPEATS):
        fold = rng.permutation(persons) % folds
        held_out = np.zeros((folds, counts.shape[1]))
        np.add.at(held_out, fold, counts)
        images = np.bincount(fold, sizes, folds)
        chosen = ((sums - held_out) / (total - images)[:, None]).argmax(axis=1)
        value = held_out[np.arange(folds), chosen].sum() / total
        residuals = counts[np.arange(persons), chosen[fold]] - value * sizes
        values.append(value)
        variances.append((residuals**2).sum() / total**2 * persons / (persons - 1))
    value, half = float(np.mean(values)), _Z * float(np.sqrt(np.mean(variances)))
    if not is_share or not 0 < value < 1:
        return Interval(value, value - half, value + half)
    odds, half = math.log(value / (1 - value)), half / (value * (1 - value))
    return Interval(value, 1 / (1 + math.exp(half - odds)), 1 / (1 + math.exp(-half - odds)))


def _cannot_be_told(counts: NDArray[np.float64], sizes: NDArray[np.float64], first: int, second: int) -> bool:
    difference, persons, total = counts[:, first] - counts[:, second], len(counts), sizes.sum()
    mean = difference.sum() / total
    if persons < 2:
        return True
    variance = ((difference - mean * sizes) ** 2).sum() / total**2 * persons / (persons - 1)
    return bool(abs(mean) <= _Z * np.sqrt(variance))


def _is_enqueued(study: optuna.Study, trial: TrialRow) -> bool:
    """Whether someone chose this configuration; a grid enqueues every one of its own."""
    trials = study.get_trials(deepcopy=False)
    fixed = [each.number for each in trials if "fixed_params" in each.system_attrs]
    return trial.storage_number in fixed and len(fixed) < len(trials)


def accuracy_in(path: Path) -> Interval | None:
    """The accuracy of the predictions in a file, with its 95% interval; None if they cannot be read."""
    table = read_predictions(path)
    if table is None:
        return None
    return bootstrap_interval("accuracy", table.labels, table.probabilities, table.persons)


def read_predictions(path: Path) -> Predictions | None:
    """The predictions in a file of a trial's folder; None if they cannot be read or the run diverged."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
        predictions = Predictions.from_columns(columns)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return predictions if len(predictions) and np.isfinite(predictions.probabilities).all() else None
