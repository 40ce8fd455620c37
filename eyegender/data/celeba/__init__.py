"""`data=celeba`: eyes cropped from CelebA's aligned faces, in torchvision's or Kaggle's layout."""

from __future__ import annotations

import hashlib
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from eyegender.core.cache import cache_folder
from eyegender.core.errors import UserError
from eyegender.core.progress import check_stop
from eyegender.data.celeba.annotations import Annotations, check_attributes, eye_columns, read_annotations
from eyegender.data.celeba.eyes import EyeTable, crop_digests, crop_eyes, crop_sides
from eyegender.data.celeba.stored import Listing, list_images, load_eyes, store_eyes, table_key
from eyegender.data.image_facts import FactsTable, read_facts
from eyegender.data.text_columns import PathColumn, TextColumn, find_texts, sorting_order, take_texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eyegender.data.readers import Samples

Eyes = Literal["both", "left", "right"]
_SIDES: dict[str, tuple[str, ...]] = {"both": ("left", "right"), "left": ("left",), "right": ("right",)}
_TABLES = ("list_attr_celeba", "list_landmarks_align_celeba", "identity_CelebA", "list_eval_partition")
_log = logging.getLogger(__name__)


# What the last reader of this process found, and what it depends on: trials of a sweep read the same tables.
_last: tuple[tuple[Path, str, str], Samples] | None = None


class CelebaReader:
    """Reads one or both eyes of each face, cropped to a square around the landmark; the label is the attribute `Male`.

    Expects `img_align_celeba/` (as in Kaggle's archive, possibly inside a folder of the same name) next to
    `list_attr_celeba` and `list_landmarks_align_celeba`, each `.txt` or `.csv`. `identity_CelebA` (persons) and
    `list_eval_partition` (official partition) are optional.

    Args:
        root: the folder with these files, or the parent of that folder if it is named `celeba/`.
        eyes: `both`, or the `left` or `right` eye as seen in the image.
        crop: side of the square in multiples of the distance between the eyes, above 0 and at most 4.
        download: download missing files with torchvision into `root/celeba`.
        on_bad: `skip` leaves out faces whose image is missing or whose eyes are outside of it or swapped.
        cache: the cache folder for content hashes and for the eyes that were found, see `cache_folder`.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        eyes: Eyes = "both",
        crop: float = 1.0,
        download: bool = False,
        on_bad: Literal["error", "skip"] = "error",
        cache: str | Path | None = None,
    ) -> None:
        if eyes not in _SIDES:
            raise UserError(f"data.eyes must be one of {', '.join(_SIDES)}, got {eyes!r}")
        if not 0 < crop <= 4:
            raise UserError(f"data.crop must be above 0 and at most 4 distances between the eyes, got {crop}")
        self.root = Path(root).expanduser()
        self.eyes = eyes
        self.crop = crop
        self.download = download
        self.on_bad = on_bad
        self.cache = cache

    def check(self) -> None:
        """Raises UserError if the folder of the images does not exist and is not downloaded."""
        if not self.download:
            _find(self.root)

    def read(self) -> Samples:
        """List the eyes. If tables, options and images are those of an earlier call, only their listing is read."""
        global _last  # noqa: PLW0603 - one data set per process
        if self.download:
            _download(self.root)
        home, images = _find(self.root)
        listing = list_images(images)
        folder = cache_folder(self.cache) / "celeba"
        key = self._key(_hashes(home), images)
        if _last is not None and listing.fingerprint and _last[0] == (folder, key, listing.fingerprint):
            return _last[1]
        table = load_eyes(folder, key, listing)
        errors: dict[int, str] = {}
        if table is None:
            table, errors, tables = self._read(home, images, listing)
            if not errors:
                store_eyes(folder, self._key(tables, images), listing, table)
        for warning in table.warnings.tolist():
            _log.warning("%s", warning)
        samples = table.samples(images, errors)
        _last = None if errors else ((folder, key, listing.fingerprint), samples)
        return samples

    def _key(self, tables: Mapping[str, str], images: Path) -> str:
        return table_key(tables, images, self.eyes, float(self.crop), self.on_bad)

    def _read(self, home: Path, images: Path, listing: Listing) -> tuple[EyeTable, dict[int, str], dict[str, str]]:
        """The eyes, why a face cannot be read by its position, and the hashes of the tables that were read."""
        attributes = _table(home, "list_attr_celeba", 40, headed=True)
        landmarks = _table(home, "list_landmarks_align_celeba", 10, headed=True)
        if attributes is None or landmarks is None:
            missing = "list_attr_celeba" if attributes is None else "list_landmarks_align_celeba"
            raise UserError(f"CelebA needs {missing}.txt or .csv in {home.absolute()}, got neither; add it there")
        check_attributes(attributes)
        identity = _table(home, "identity_CelebA", 1, headed=False)
        if identity is not None:
            identity.refuse(identity.values < 0, "a person's number, 0 or more, for each image")
        partition = _table(home, "list_eval_partition", 1, headed=False)
        warnings: list[str] = []
        names = attributes.names
        used = self._present(images, attributes, listing, warnings)
        points = _aligned(landmarks, names)[:, eye_columns(landmarks)]
        facts = read_facts(PathColumn(images, take_texts(names, used)), self.cache)
        placed = self._placed(names.values[used], points[used], facts, landmarks.path, warnings)
        used = used[placed]
        sizes = _known_sizes(facts)[placed]
        eyes, rows, boxes = crop_eyes(names.values[used], points[used], sizes, _SIDES[self.eyes], self.crop)
        sha256 = facts.sha256.values[placed]
        self._check_counts(attributes.column("Male")[used][rows] == 1)
        if partition is not None:
            partition.refuse((partition.values < 0) | (partition.values > 2), "0, 1 or 2 (train, val, test)")
        unknown = np.empty(0, dtype=np.int64)
        table = EyeTable(
            names=eyes,
            rows=rows,
            boxes=boxes,
            digests=crop_digests(sha256[rows], boxes),
            faces=names.values[used],
            sha256=sha256,
            columns=np.array(attributes.columns, dtype=np.str_),
            attributes=np.ascontiguousarray(attributes.values.astype(np.int8)[used].T),
            persons=unknown if identity is None else _aligned(identity, names)[used, 0],
            splits=(unknown if partition is None else _aligned(partition, names)[used, 0]).astype(np.int8),
            warnings=np.array(warnings, dtype=np.str_),
        )
        errors = {row: facts.errors[i] for row, i in enumerate(placed.tolist()) if i in facts.errors}
        tables = (attributes, landmarks, identity, partition)
        return table, errors, {each.path.name: each.sha256 for each in tables if each is not None}

    def _present(
        self, images: Path, attributes: Annotations, listing: Listing, warnings: list[str]
    ) -> NDArray[np.int64]:
        """Rows whose image file exists."""
        names, source = attributes.names, attributes.path.name
        found = find_texts(names.values, listing.names) >= 0
        missing = take_texts(names, np.flatnonzero(~found))
        if missing and self.on_bad == "error":
            raise UserError(
                f"every image that {source} names must be in {images}, "
                f"got {len(missing)} of {len(names)} missing ({missing[0]} first); add them or set data.on_bad=skip",
                tuple(missing),
            )
        if missing:
            warnings.append(f"{source} names {len(missing)} images that do not exist; they are left out")
        return np.flatnonzero(found)

    def _placed(
        self,
        names: NDArray[np.bytes_],
        points: NDArray[np.int64],
        facts: FactsTable,
        source: Path,
        warnings: list[str],
    ) -> NDArray[np.int64]:
        """Positions of the faces whose eyes are inside the image and not swapped."""
        x, y = points[:, ::2], points[:, 1::2]
        width, height = _known_sizes(facts).T
        inside = np.all((x >= 0) & (x < width[:, None]) & (y >= 0) & (y < height[:, None]), axis=1)
        placed = inside & (crop_sides(points, self.crop) >= 2) & (x[:, 0] < x[:, 1])
        outside = [
            f"{name}: eyes at ({x0}, {y0}) and ({x1}, {y1}) in {width[i]} x {height[i]} pixels"
            for i, name, (x0, y0, x1, y1) in (
                (i, TextColumn(names)[i], points[i].tolist()) for i in np.flatnonzero(~placed).tolist()
            )
        ]
        if outside and self.on_bad == "error":
            raise UserError(
                f"{source} must place both eyes inside the image, the left one (as seen) apart from and left of the "
                f"right one, got {len(outside)} of {len(facts)} that it does not ({outside[0]}); repair the lines or "
                "set data.on_bad=skip",
                tuple(outside),
            )
        if outside:
            warnings.append(f"{source}: {len(outside)} faces have eyes outside the image or swapped; they are left out")
        return np.flatnonzero(placed)

    def _check_counts(self, male: NDArray[np.bool_]) -> None:
        for name, count in (("female", int(np.sum(~male))), ("male", int(np.sum(male)))):
            if count < 2:
                raise UserError(
                    f"each class needs two images or more, got {count} {name} in {self.root.absolute()}; add images"
                )


def _known_sizes(facts: FactsTable) -> NDArray[np.int64]:
    """Width and height of each image; one with an unreadable header is checked when it is opened."""
    sizes = facts.sizes.astype(np.int64)
    return np.where(sizes[:, :1] > 0, sizes, 1 << 16)


def _download(root: Path) -> None:
    home = root.parent if root.name == "celeba" else root
    from torchvision.datasets import CelebA

    failed: list[Exception] = []

    def fetch() -> None:
        try:
            home.mkdir(parents=True, exist_ok=True)
            CelebA(str(home), download=True)
        except Exception as error:  # anything from the network, the quota page or a missing gdown
            failed.append(error)

    # In another thread, so that Ctrl-C does not wait for a gigabyte.
    download = threading.Thread(target=fetch, name="CelebA", daemon=True)
    download.start()
    while download.is_alive():
        download.join(0.2)
        check_stop()
    if failed:
        reason = " ".join(str(failed[0]).split())[:200]
        raise UserError(
            f"data.download=true must be able to fetch CelebA into {home.absolute()}, got: {reason}; "
            "fetch it by hand, put it there and set data.download=false"
        ) from failed[0]


def _find(root: Path) -> tuple[Path, Path]:
    """The folder of the annotations and the folder of the images."""
    for home in (root, root / "celeba"):
        outer = home / "img_align_celeba"
        if outer.is_dir():
            inner = outer / "img_align_celeba"
            return home, inner if inner.is_dir() else outer
    raise UserError(
        "data.root must be a folder with img_align_celeba/ (or celeba/img_align_celeba/) in it, "
        f"got {root.absolute()}; set data.root, or data.download=true to fetch CelebA there"
    )


def _table_path(home: Path, stem: str) -> Path | None:
    paths = (home / f"{stem}{suffix}" for suffix in (".txt", ".csv"))
    return next((path for path in paths if path.is_file()), None)


def _table(home: Path, stem: str, columns: int, *, headed: bool) -> Annotations | None:
    path = _table_path(home, stem)
    return None if path is None else read_annotations(path, columns, headed=headed)


def _hashes(home: Path) -> dict[str, str]:
    """Hex hash of each table by the name of its file; none of those that cannot be read, which reading reports."""
    hashes = {}
    for path in (_table_path(home, stem) for stem in _TABLES):
        if path is not None:
            with suppress(OSError), path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _aligned(table: Annotations, names: TextColumn) -> NDArray[np.int64]:
    """The table's values in the order of `names`."""
    if table.names == names:
        return table.values
    order = sorting_order(table.names.values)
    found = find_texts(names.values, table.names.values[order])
    missing = take_texts(names, np.flatnonzero(found < 0))
    if missing:
        raise UserError(
            f"{table.path} must name every image that list_attr_celeba names, got {len(missing)} missing "
            f"({missing[0]} first); download it again",
            tuple(missing),
        )
    return table.values[order[found]]
