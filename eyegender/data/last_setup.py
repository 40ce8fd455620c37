"""What the last data module of this process found: the trials of a worker have one data set and one split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eyegender.core.cache import mark_used

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eyegender.data.readers import Samples

Options = tuple[object, ...]


@dataclass(frozen=True)
class _Setup:
    samples: Samples
    options: Options
    attributes: Mapping[str, Any]


_last: _Setup | None = None


def recall(samples: Samples, options: Options) -> Mapping[str, Any]:
    """The attributes that were remembered for these very samples and equal options; empty if there are none.

    Their decoded images must still be in the cache, in which they count as used.
    """
    if _last is None or _last.samples is not samples or _last.options != options:
        return {}
    folder = _last.attributes["store"].folder
    if not folder.is_dir():
        return {}
    mark_used(folder)
    return _last.attributes


def remember(samples: Samples, options: Options, attributes: Mapping[str, Any]) -> None:
    """Keep the attributes of a data module after its `setup`, `store` among them."""
    global _last  # noqa: PLW0603
    _last = _Setup(samples, options, dict(attributes))
