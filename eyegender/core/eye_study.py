"""Whether some classes are those of the eye study, to which the paper's numbers and the text on ethics belong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

EYE_FOLDERS = ("femaleeyes", "maleeyes")
# CelebA's label, the folders of the paper's data, and the other usual names of the same two classes.
_NAMES = (("female", "male"), EYE_FOLDERS, ("women", "men"), ("woman", "man"), ("females", "males"))


def is_eye_study(classes: Sequence[str]) -> bool:
    """Whether these are the two classes of the eye study, in any order and by any of their usual names.

    Example:
        >>> is_eye_study(("maleeyes", "femaleeyes")), is_eye_study(("cats", "dogs"))
        (True, False)
    """
    return sorted(name.lower() for name in classes) in [sorted(names) for names in _NAMES]


def unit_of(classes: Sequence[str]) -> str:
    """What images that stay together show: a `person` in the eye study; of others only that they are an `image group`.

    Example:
        >>> unit_of(("female", "male")), unit_of(("cats", "dogs"))
        ('person', 'image group')
    """
    return "person" if is_eye_study(classes) else "image group"


def counted_units(persons: Sequence[object] | None, classes: Sequence[str]) -> str:
    """How many persons or image groups some images are of, as a phrase; empty if unknown, or if a group is one image.

    Example:
        >>> counted_units("aabb", ("cats", "dogs")), counted_units("abcd", ("cats", "dogs"))
        (' of 2 image groups', '')
    """
    count = None if persons is None else len(set(persons))
    if persons is None or (count == len(persons) and not is_eye_study(classes)):
        return ""
    return f" of {count:,} {unit_of(classes)}s"


def split_title(kind: str, classes: Sequence[str]) -> str:
    """The kind of a split as a word: `person` only in the eye study, otherwise `group`."""
    return "group" if kind == "person" and not is_eye_study(classes) else kind
