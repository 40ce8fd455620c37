"""Picture files named one by one or by folder, decoded in threads, bad ones told apart."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.data.decode import SUFFIXES, decode, read_image_bytes
from eyegender.data.readers import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL import Image

BATCH = 256


@dataclass(frozen=True)
class Decoded:
    """One file, with its picture or the reason why there is none."""

    path: Path
    image: Image.Image | None
    reason: str = ""


def list_pictures(images: Sequence[str]) -> list[Path]:
    """Files as given, and of folders every picture in them and below, in order of name.

    Raises:
        UserError: a path does not exist, or there is no picture at all.
    """
    found: dict[Path, None] = {}
    for given in images:
        path = Path(given).expanduser()
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
            # What is no file, or leads nowhere, gets a row that says so.
            found.update(dict.fromkeys(sorted(p for p in inside if not p.is_dir())))
        elif os.path.lexists(path):
            found[path] = None
        else:
            raise UserError(f"images must exist, got {given}; correct images=")
    if not found:
        raise UserError(f"no picture ({', '.join(sorted(SUFFIXES))}) in {', '.join(images)}; correct images=")
    return list(found)


def decoded_batches(
    paths: Sequence[Path], *, upright: bool = True, opener: Callable[[Path], bytes] = read_image_bytes
) -> Iterator[list[Decoded]]:
    """The pictures in order, `BATCH` at a time; the next batch is decoded while the caller works on one.

    Args:
        paths: of picture files.
        upright: turn pictures as their EXIF orientation asks.
        opener: reads a file.
    """

    def read(path: Path) -> Decoded:
        try:
            return Decoded(path, decode(opener(path), upright=upright))
        except UnreadableImageError as error:
            return Decoded(path, None, str(error))
        except OSError as error:
            return Decoded(path, None, error.strerror or type(error).__name__)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        coming = [pool.submit(read, path) for path in paths[:BATCH]]
        for start in range(0, len(paths), BATCH):
            batch, coming = coming, [pool.submit(read, path) for path in paths[start + BATCH : start + 2 * BATCH]]
            yield [future.result() for future in batch]
