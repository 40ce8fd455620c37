"""The pictures that a run was tested on, where they still are on this machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import UserError
from eyegender.data.decode import to_pixels
from eyegender.data.readers import build_reader
from eyegender.data.samples import BadPictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eyegender.comparison.disagreements import Pictures
    from eyegender.comparison.run_record import Predictions
    from eyegender.core.schema import DataSection
    from eyegender.data.samples import Samples
    from eyegender.tracking.stored_config import StoredConfig

SIZE = 96  # on a sheet

log = logging.getLogger(__name__)


def pictures_of(cfg: StoredConfig, table: Predictions) -> Pictures | None:
    """From picture names to pixels, or None where not all of the run's pictures are here any more.

    Args:
        cfg: the run's config.
        table: the run's predictions; names and content hashes must both still be the same.
    """
    try:
        samples = build_reader(offline(cfg.data)).read()
    except UserError as error:
        log.warning("without the pictures on which models disagree: %s", error)
        return None
    place = {name: i for i, name in enumerate(samples.names)}
    known = zip(table.names, table.keys, strict=True)
    if not all(name in place and samples.digests[place[name]] == key for name, key in known):
        log.warning("without the pictures on which models disagree: they are no longer the ones that were tested")
        return None
    return lambda names: np.stack([_pixels(samples, place[name]) for name in names])


def offline(data: DataSection) -> DataSection:
    """A stranger's config must not make this machine fetch a data set, or choose where it keeps its cache."""
    arguments = {name: value for name, value in data.reader.arguments.items() if name not in {"download", "cache"}}
    reader = type(data.reader).model_validate({"_target_": data.reader.target, **arguments})
    return data.model_copy(update={"reader": reader})


def _pixels(samples: Samples, i: int) -> NDArray[np.uint8]:
    try:
        return to_pixels(samples.open(i), SIZE, "gray")
    except BadPictureError:
        return np.full((1, SIZE, SIZE), 128, np.uint8)
