"""When a range applies: `model=inception_v3`, several joined by `&`, or `else`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ._errors import StudyError

# What a key is set to, as an override would write it, or None where it is set to nothing.
Lookup = Callable[[str], str | None]


def bare_key(key: str) -> str:
    """A key without Hydra's `+` or `++`."""
    return key.lstrip("+")


def comparable(text: str) -> str:
    """A value as conditions compare it: without quotes and spaces around, null for None."""
    text = text.strip().strip("'\"")
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


@dataclass(frozen=True)
class Condition:
    """All of these keys have these values; no requirement at all holds always."""

    requirements: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str, key: str) -> "Condition":
        if text.strip() == "else":
            return cls()
        requirements = []
        for part in text.split("&"):
            name, equals, value = part.partition("=")
            if not equals or not name.strip() or not value.strip():
                raise StudyError(
                    f"a condition of '{key}' must read KEY=VALUE, several joined by '&', or else; got '{text}'"
                )
            requirements.append((bare_key(name.strip()), comparable(value)))
        return cls(tuple(requirements))

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key, _ in self.requirements)

    def holds(self, values: Mapping[str, str]) -> bool:
        return all(values.get(key) == value for key, value in self.requirements)

    def given(self, swept: set[str], lookup: Lookup) -> "Condition | None":
        """What is left to check in each trial once the keys that no trial changes are looked up; None: never holds.

        Raises:
            StudyError: a key is neither swept nor anywhere in the config.
        """
        left = []
        for key, value in self.requirements:
            if key in swept:
                left.append((key, value))
                continue
            found = lookup(key)
            if found is None:
                raise StudyError(f"a condition names '{key}', which is neither swept nor in the config; got '{self}'")
            if comparable(found) != value:
                return None
        return Condition(tuple(left))

    def __str__(self) -> str:
        return " & ".join(f"{key}={value}" for key, value in self.requirements) or "else"
