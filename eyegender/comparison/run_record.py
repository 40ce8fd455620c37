"""A finished run as the comparison sees it, wherever it was loaded from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SYNTHETIC_NOTE = "Synthetic data: drawn eyes, says nothing about real ones."

# Parameters in which two seeds of one config may differ, and those that change no result. Where the data lies is one of
# them: what it is, its fingerprint says.
_NOT_CONFIG = (
    "seed", "data.split.seed", "data.root", "data.reader.root", "ckpt_path", "run_test", "trainer.progress",
    "trainer.threads",
)  # fmt: skip
_NOT_CONFIG_SECTIONS = ("tracking.", "count.", "hydra.")


@dataclass(frozen=True)
class Predictions:
    """What a run said of each test picture.

    Args:
        names: N unique names.
        keys: N content hashes, equal where the pictures are equal; the names where there are none.
        labels: 0/1, shape (N,).
        probabilities: of label 1, shape (N,), NaN where the run diverged.
        persons: N persons, or None where nobody knows.
        attributes: further facts by name, each of shape (N,); above 0 means that it is present.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    persons: tuple[str, ...] | None = None
    attributes: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)

    @classmethod
    def from_table(cls, columns: Mapping[str, Sequence[object]]) -> Predictions:
        """From columns `name`, `label`, `probability`, if known `digest` and `person`; all others are attributes.

        Raises:
            ValueError: a column is missing or of another length.
        """
        missing = [name for name in ("name", "label", "probability") if name not in columns]
        if missing:
            raise ValueError(
                f"the table of predictions has no column {', '.join(missing)}; it has {', '.join(columns)}"
            )
        lengths = {len(values) for values in columns.values()}
        if len(lengths) != 1:
            raise ValueError(f"the columns of the table of predictions have different lengths: {sorted(lengths)}")
        names = tuple(str(name) for name in columns["name"])
        persons = tuple(str(person) for person in columns.get("person", ()))
        probabilities = [np.nan if p is None else p for p in columns["probability"]]
        known = {"name", "digest", "person", "label", "probability"}
        return cls(
            names=names,
            keys=tuple(str(key) for key in columns.get("digest", names)),
            labels=np.asarray(columns["label"], dtype=np.int64),
            probabilities=np.asarray(probabilities, dtype=np.float64),
            persons=persons if any(persons) else None,
            attributes={name: np.asarray(columns[name], dtype=np.int8) for name in columns if name not in known},
        )

    def __len__(self) -> int:
        return len(self.names)

    def sorted(self) -> Predictions:
        """In the order of keys, so that two runs on the same pictures stand side by side."""
        order = np.array(sorted(range(len(self)), key=lambda i: (self.keys[i], self.names[i])), dtype=np.int64)
        return Predictions(
            names=tuple(self.names[i] for i in order),
            keys=tuple(self.keys[i] for i in order),
            labels=self.labels[order],
            probabilities=self.probabilities[order],
            persons=None if self.persons is None else tuple(self.persons[i] for i in order),
            attributes={name: values[order] for name, values in self.attributes.items()},
        )

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each picture is told rightly, at threshold 0.5."""
        return np.asarray((self.probabilities > 0.5) == (self.labels == 1))

    @property
    def counts(self) -> NDArray[np.int64]:
        """[[tn, fp], [fn, tp]]."""
        says = (self.probabilities > 0.5).astype(np.int64)
        return np.bincount(2 * self.labels + says, minlength=4).reshape(2, 2)

    @property
    def fingerprint(self) -> str:
        """Hex hash of which pictures with which labels these are, not of their order or of what was predicted."""
        lines = sorted(f"{key} {label}" for key, label in zip(self.keys, self.labels, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class ModelFacts:
    """What a model costs; None is unknown. Latency is per picture, measured on the machine that wrote the page."""

    parameters: int | None = None
    multiply_adds: int | None = None
    size_bytes: int | None = None
    latency_ms: float | None = None
    training_seconds: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """One run: what was asked for, what came out, and what it said of each test picture.

    Args:
        run_id: in the tracking store.
        name: the run's name; need not be unique.
        params: the composed config, flattened to dotted keys.
        metrics: the final values as logged (`test/accuracy` and so on).
        history: one mapping of metrics per epoch, the first epoch first.
        predictions: None where the run stored none, or where they are lost.
        tags: as logged.
        facts: what the model costs.
        trials: how many trials of a study this run was picked from; None where it was not picked from several.
        chosen_by: the metric that it was picked by, where it was.
        lost: what became of the predictions of a run that was tested and has none; else None.
    """

    run_id: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    predictions: Predictions | None
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: ModelFacts = field(default_factory=ModelFacts)
    trials: int | None = None
    chosen_by: str = "val/accuracy"
    lost: str | None = None

    @property
    def backbone(self) -> str:
        return self.params.get("model.name", "?")

    @property
    def seed(self) -> str:
        return self.params.get("seed", "?")

    @property
    def synthetic(self) -> bool:
        return self.tags.get("synthetic") == "true" or self.tags.get("data.source") == "synthetic"

    @property
    def split_kind(self) -> str:
        return self.tags.get("split.kind", self.params.get("data.split.by", "?"))

    @property
    def config_key(self) -> tuple[tuple[str, str], ...]:
        """Equal for runs that differ in nothing but their seed."""
        params = {
            k: v for k, v in self.params.items() if k not in _NOT_CONFIG and not k.startswith(_NOT_CONFIG_SECTIONS)
        }
        return (*sorted(params.items()), ("data.fingerprint", self.tags.get("data.fingerprint", "")))
