"""Which class of some data is which class of a model: names decide, never their order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eyegender.data.readers import Reader, Samples


@dataclass(frozen=True)
class ClassNames:
    """The model's classes, as seen from data.

    Args:
        model: its classes, label 0 first.
        of: the model's class by the data's, for those of another name.
    """

    model: tuple[str, str]
    of: Mapping[str, str]

    def check(self, data: tuple[str, str]) -> None:
        """Raises UserError where these two classes are not the model's two."""
        unknown = [name for name in self.of if name not in data]
        if unknown or sorted(self._named(data)) != sorted(self.model):
            same = ", ".join(f"{theirs}: {ours}" for theirs, ours in zip(data, self.model, strict=True))
            raise UserError(
                f"the data must have the model's classes, {self.model[0]} and {self.model[1]}, got {data[0]} and "
                f"{data[1]}{f' with classes={dict(self.of)}' if self.of else ''}; give other data or another model, "
                f"or say which class is which, as in 'classes={{{same}}}'"
            )

    def relabelled(self, samples: Samples) -> Samples:
        """The samples with the model's names and labels."""
        self.check(samples.classes)
        same_order = self._named(samples.classes) == self.model
        return replace(samples, classes=self.model, labels=samples.labels if same_order else 1 - samples.labels)

    def _named(self, data: tuple[str, str]) -> tuple[str, ...]:
        return tuple(self.of.get(name, name) for name in data)


@dataclass(frozen=True)
class CheckedReader:
    """A reader whose classes are checked before a picture is decoded."""

    reader: Reader
    names: ClassNames

    def read(self) -> Samples:
        samples = self.reader.read()
        self.names.check(samples.classes)
        return samples
