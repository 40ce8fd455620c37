"""The tables of predictions that a run stores, for its test and its validation images: one row per image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

PREDICTIONS_FILE, VAL_PREDICTIONS_FILE = "test_predictions.json", "val_predictions.json"

# Attributes are reported if at least this many images have them and as many do not.
MIN_GROUP_SIZE = 20

_REQUIRED = ("name", "label", "probability")
_OPTIONAL = ("digest", "person")
_OF_CLASS = "probability: "  # begins the name of the column with the probabilities of a class, if there are over two


class AttributeAccuracy(NamedTuple):
    """Accuracy on the images with and without an attribute, in 0..1, and how many images have it."""

    name: str
    present: float
    absent: float
    n_present: int

    @property
    def difference(self) -> float:
        """Accuracy with the attribute minus accuracy without it."""
        return self.present - self.absent


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model for N images.

    Args:
        names: N unique names.
        keys: N content hashes, equal for equal images; the names if there are no hashes.
        labels: true class of each image, shape (N,).
        probabilities: predicted probability of label 1, shape (N,), or of each of K classes, shape (N, K); NaN if the
            run diverged.
        persons: person on each of the N images; None if unknown.
        attributes: further facts about each image by name, each of shape (N,); above 0 means that it is present.
        classes: the names of K classes, if there are more than two; for two classes, the table does not name them.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    persons: tuple[str, ...] | None = None
    attributes: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[object]]) -> Predictions:
        """From the columns `name`, `label`, `probability` and, if known, `digest` and `person`; others are attributes.

        If there are more than two classes, columns `probability: NAME` of all classes replace `probability`.

        Raises:
            ValueError: a column is missing, or the columns have different lengths.
        """
        of_class = [name for name in columns if name.startswith(_OF_CLASS)]
        missing = [name for name in _REQUIRED if name not in columns and not (name == "probability" and of_class)]
        if missing:
            raise ValueError(
                f"the table of predictions has no column {', '.join(missing)}; it has {', '.join(columns)}"
            )
        lengths = {len(values) for values in columns.values()}
        if len(lengths) != 1:
            raise ValueError(f"the columns of the table of predictions have different lengths: {sorted(lengths)}")
        names = tuple(str(name) for name in columns["name"])
        persons = tuple(str(person) for person in columns.get("person", ()))
        scores = np.array(
            [[np.nan if p is None else p for p in columns[name]] for name in of_class or ["probability"]], np.float64
        )
        known = {*_REQUIRED, *_OPTIONAL, *of_class}
        return cls(
            names=names,
            keys=tuple(str(key) for key in columns.get("digest", names)),
            labels=np.asarray(columns["label"], dtype=np.int64),
            probabilities=scores.T if of_class else scores[0],
            persons=persons if any(persons) else None,
            attributes={name: np.asarray(columns[name], dtype=np.int8) for name in columns if name not in known},
            classes=tuple(name.removeprefix(_OF_CLASS) for name in of_class),
        )

    def to_table(self) -> dict[str, list[object]]:
        """The layout that `mlflow.load_table` reads: the names of the columns, and one list per row."""
        columns: dict[str, list[object]] = {
            "name": list(self.names),
            "digest": list(self.keys),
            "person": list(self.persons) if self.persons is not None else [""] * len(self),
            "label": self.labels.tolist(),
        }
        by_name = {f"{_OF_CLASS}{name}": self.probabilities[:, label] for label, name in enumerate(self.classes)}
        for name, probabilities in (by_name or {"probability": self.probabilities}).items():
            # All digits of a float32, so that the ranks and with them the AUROC do not change.
            columns[name] = [float(f"{p:.9g}") for p in probabilities.tolist()]
        columns |= {name: values.tolist() for name, values in self.attributes.items()}
        return {"columns": list(columns), "data": [list(row) for row in zip(*columns.values(), strict=True)]}

    def __len__(self) -> int:
        return len(self.names)

    def sorted(self) -> Predictions:
        """In the order of the keys, so that rows of two runs on the same images correspond."""
        order = np.array(sorted(range(len(self)), key=lambda i: (self.keys[i], self.names[i])), dtype=np.int64)
        return Predictions(
            names=tuple(self.names[i] for i in order),
            keys=tuple(self.keys[i] for i in order),
            labels=self.labels[order],
            probabilities=self.probabilities[order],
            persons=None if self.persons is None else tuple(self.persons[i] for i in order),
            attributes={name: values[order] for name, values in self.attributes.items()},
            classes=self.classes,
        )

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted class of each image: of two, label 1 above 0.5; of more, the most likely one."""
        scores = self.probabilities
        return np.asarray(scores.argmax(axis=1) if scores.ndim > 1 else scores > 0.5, dtype=np.int64)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image is classified correctly."""
        return np.asarray(self.predicted == self.labels)

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """One row per true class and one column per predicted class; of two classes [[tn, fp], [fn, tp]]."""
        count = len(self.classes) or 2
        return np.bincount(count * self.labels + self.predicted, minlength=count**2).reshape(count, count)

    def attribute_accuracies(self) -> list[AttributeAccuracy]:
        """Accuracy by attribute, the largest loss first, for attributes that at least 20 images have and 20 lack.

        An attribute that equals the label is left out: the confusion matrix shows it.
        """
        accuracies = []
        for name, values in self.attributes.items():
            present = values > 0
            n_present = int(present.sum())
            if min(n_present, len(self) - n_present) < MIN_GROUP_SIZE or np.array_equal(present, self.labels == 1):
                continue
            with_it, without_it = float(self.correct[present].mean()), float(self.correct[~present].mean())
            accuracies.append(AttributeAccuracy(name, with_it, without_it, n_present))
        return sorted(accuracies, key=lambda one: (one.difference, one.name))

    @property
    def labeled_keys(self) -> list[tuple[str, int | str]]:
        """Key and class of each image: the name of more than two classes, else the label, whatever the class's name."""
        classes: list[int | str] = [self.classes[label] if self.classes else label for label in self.labels.tolist()]
        return list(zip(self.keys, classes, strict=True))

    @property
    def fingerprint(self) -> str:
        """Hex hash of the images and their labels, independent of their order and of the predictions."""
        lines = sorted(f"{key} {label}" for key, label in self.labeled_keys)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
