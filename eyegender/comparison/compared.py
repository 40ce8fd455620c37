"""What a comparison consists of: its runs, the groups of comparable ones, and the configs with several seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from eyegender.core.eye_study import EYE_FOLDERS, is_eye_study, split_title, unit_of
from eyegender.tracking.run_names import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.comparison.run_record import RunRecord
    from eyegender.models.intervals import Interval
    from eyegender.tracking.predictions import Predictions

Part = Literal["test", "val"]
TITLES: dict[Part, str] = {"test": "test", "val": "validation"}

_COUNT = "count.train."  # begins the parameters with the number of training images of each class
_LONGEST = 44  # characters of a name in a legend


@dataclass(frozen=True)
class ComparedRun:
    """One run of the comparison.

    Args:
        number: position on the page, from 1; figures and sentences refer to it.
        record: the run itself.
        predictions: its predictions, in the order of images that all runs of the group share.
        group: letter of the group of runs with which it can be compared.
        metrics: each of METRICS with its 95% interval.
        leads: whether its accuracy is the highest of its group.
        short_name: what it is and how it differs from the other runs, unique on the page.
        classes: its class names in label order.
    """

    number: int
    record: RunRecord
    predictions: Predictions
    group: str
    metrics: dict[str, Interval]
    leads: bool
    short_name: str
    classes: tuple[str, ...] = ("female", "male")

    @property
    def is_of_eyes(self) -> bool:
        """Whether it is of the eye study: by the classes that it logged, else by those of the page."""
        return is_eye_study(self._class_names)

    @property
    def is_of_paper(self) -> bool:
        """Whether it was trained on the paper's data: CelebA, or the folders that the paper made of it."""
        source = self.record.tags.get("data.source")
        return source == "celeba" or (source == "folder" and {*self._class_names} == {*EYE_FOLDERS})

    @property
    def unit(self) -> str:
        """What the bootstrap and the tests resample if it is known: `person` or `image group`."""
        return unit_of(self._class_names)

    @property
    def split_title(self) -> str:
        """How its images were split, as a word."""
        return split_title(self.record.split_kind, self._class_names)

    @property
    def _class_names(self) -> Sequence[str]:
        return [name.removeprefix(_COUNT) for name in self.record.params if name.startswith(_COUNT)] or self.classes

    @property
    def label(self) -> str:
        """A label for legends, unique on the page: as much of the name as has room, what differs most first."""
        name = self.short_name
        while len(name) > _LONGEST and SEPARATOR in name:
            name = name.removesuffix(" …").rpartition(SEPARATOR)[0] + " …"
        return f"{self.number} {name if len(name) <= _LONGEST + 2 else name[:_LONGEST] + '…'}"


@dataclass(frozen=True)
class RunGroup:
    """Runs that can be compared: they have predictions for the same images and the same split.

    Args:
        letter: A for the largest group.
        numbers: numbers of its runs, the most accurate first.
        n: number of images.
        persons: number of persons on the images, or of image groups; None if unknown.
        split_kind: `person` (`group`, if images are not of persons), `blocks`, `random`, `file` or `official`.
        unit: what `persons` counts: `person` or `image group`.
        part: whether these are the test or the validation images.
    """

    letter: str
    numbers: tuple[int, ...]
    n: int
    persons: int | None
    split_kind: str
    unit: str = "person"
    part: Part = "test"

    @property
    def has_units(self) -> bool:
        """Whether persons are known, or groups of more than one image."""
        return self.persons is not None and (self.unit == "person" or self.persons < self.n)

    @property
    def images(self) -> str:
        """For example `120 test images of 60 persons`."""
        return f"{self.n:,} {TITLES[self.part]} images" + (
            f" of {self.persons:,} {self.unit}s" if self.persons and self.has_units else ""
        )


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in their seed.

    Args:
        numbers: numbers of the runs.
        seeds: their seeds, as configured.
        mean: mean of each of METRICS.
        spread: sample standard deviation of each of METRICS.
        one_test_set: whether all were measured on the same images; otherwise the spread includes that of the split.
    """

    numbers: tuple[int, ...]
    seeds: tuple[str, ...]
    mean: dict[str, float]
    spread: dict[str, float]
    one_test_set: bool
