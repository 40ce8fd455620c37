"""Pictures that cannot be read: all of them are listed, or left out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eyegender.data.samples import Samples

_log = logging.getLogger(__name__)


def check_readable(samples: Samples, bad: Mapping[str, str], on_bad: Literal["error", "skip"]) -> Mapping[str, str]:
    """The pictures to leave out, and why.

    Args:
        samples: all of them.
        bad: reasons by digest.
        on_bad: whether there may be any.

    Raises:
        UserError: there are, and may not be; lists them.
    """
    skipped = {name: bad[digest] for name, digest in zip(samples.names, samples.digests, strict=True) if digest in bad}
    lines = tuple(f"{name}: {reason}" for name, reason in skipped.items())
    if skipped and on_bad == "error":
        raise UserError(
            f"every picture must be readable, got {len(skipped)} of {len(samples)} that are not ({lines[0]}); "
            "repair or remove them, or set data.on_bad=skip",
            lines,
        )
    if skipped:
        _log.warning("%d of %d pictures cannot be read and are left out", len(skipped), len(samples))
    return skipped
