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
