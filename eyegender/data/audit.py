"""The audit of a data set before training: its contents, and the leakage of a random split."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import UserError, one_line
from eyegender.data.contact_sheet import SheetRow
from eyegender.data.near_duplicates import find_near_duplicates, image_vectors
from eyegender.data.splits import Split, separated_persons, split_at_random, split_by_group
from eyegender.data.splits.leakage import count_pairs_across, nearest_neighbor_accuracy, principal_components
from eyegender.data.text_columns import text_array, text_codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eyegender.data.data_module import EyesDataModule
    from eyegender.data.readers import Samples

_SOME = 2048  # images that principal components are computed from
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NearPair:
    """A pair of near-duplicates.

    Args:
        first: name of one image.
        second: name of the other image.
        similarity: their correlation, at most 1.
        mirrored: whether they match when one is mirrored.
        in_both_classes: whether their labels differ.
    """

    first: str
    second: str
    similarity: float
    mirrored: bool
    in_both_classes: bool


@dataclass(frozen=True)
class Leak:
    """What a kind of split leaks.

    Args:
        across: number of pairs of duplicates and near-duplicates with one image in the test set and one outside, mean
            over the seeds.
        accuracy: accuracy of a nearest neighbor on raw pixels, mean over the seeds.
        accuracies: accuracy for each seed.
    """

    across: float
    accuracy: float
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class AuditReport:
    """Findings on a data set, as a run with this config would use it.

    Args:
        source: name of the reader.
        counts: images per class.
        split_kind: how the configured split is made.
        split_counts: images per split and class; empty if no split can be made.
        no_split: why no split can be made, else empty.
        separated_persons: persons in more than one split: the splits by person; None if the persons are unknown.
        sizes: smallest, median and largest side length in pixels, or None if they are unknown.
        unreadable: reasons by name of the image.
        duplicates: names of images with equal contents, one entry for each content.
        conflicts: names of the copies of each image that is in several classes, by bytes or by pixels.
        near_pairs: near-duplicates, most similar first.
        near_aborted: whether the images are too similar for a search for near-duplicates.
        group_sizes: number of groups (persons, or groups in place of them) by their number of images; None if unknown.
        leaks: leakage by kind of split: `random` and, if groups are known, `person`.
    """

    source: str
    counts: Mapping[str, int]
    split_kind: str
    split_counts: Mapping[str, Mapping[str, int]]
    no_split: str
    separated_persons: Mapping[str, tuple[str, ...]] | None
    sizes: tuple[int, float, int] | None
    unreadable: Mapping[str, str]
    duplicates: tuple[tuple[str, ...], ...]
    conflicts: tuple[tuple[str, ...], ...]
    near_pairs: tuple[NearPair, ...]
    near_aborted: bool
    group_sizes: Mapping[int, int] | None
    leaks: Mapping[str, Leak]

    @property
    def gain(self) -> tuple[float, float] | None:
        """The accuracy that a nearest neighbor gains from a random split, and its standard error; None if unknown."""
        if not {"random", "person"} <= set(self.leaks):
            return None
        each = np.subtract(self.leaks["random"].accuracies, self.leaks["person"].accuracies)
        error = float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")
        return float(each.mean()), error


def examine(data: EyesDataModule, repeats: int = 5) -> tuple[AuditReport, list[SheetRow]]:
    """The report on a data module that was read but not split, and the rows of a contact sheet.

    Args:
        data: a data module with `on_bad=skip` and `on_conflict=keep`, and gray images of 32 x 32 pixels.
        repeats: number of seeds over which splits are compared, 1 or more.
    """
    no_split = ""
    try:
        data.make_split()
    except UserError as error:
        no_split = str(error)
    samples = data.samples
    images = _StoredImages(data)
    codes, _ = text_codes(text_array(samples.digests))
    unique = np.sort(np.unique(codes, return_index=True)[1])
    near = find_near_duplicates(*image_vectors(images, unique))
    near_pairs = unique[near.pairs]
    equal = _equal_images(codes)
    pairs = np.concatenate([near_pairs, [(m[0], other) for m in equal for other in m[1:]]]) if equal else near_pairs

    groups: Sequence[str] | NDArray[np.int64] | None = samples.persons if data.groups is None else data.groups
    report = AuditReport(
        source=samples.source,
        counts={name: int(np.sum(samples.labels == label)) for label, name in enumerate(samples.classes)},
        split_kind=data.split_by if no_split else data.split.kind,
        split_counts={} if no_split else data.counts(),
        no_split=no_split,
        separated_persons=None
        if no_split or samples.persons is None
        else separated_persons(samples.persons, data.split),
        sizes=_sizes(samples),
        unreadable=data.skipped,
        duplicates=tuple(tuple(samples.names[i] for i in members) for members in equal),
        conflicts=data.conflicts,
        near_pairs=tuple(
            NearPair(
                samples.names[a],
                samples.names[b],
                float(similarity),
                bool(mirrored),
                in_both_classes=bool(samples.labels[a] != samples.labels[b]),
            )
            for (a, b), similarity, mirrored in zip(near_pairs.tolist(), near.similarity, near.mirrored, strict=True)
        ),
        near_aborted=near.aborted,
        group_sizes=None if groups is None else dict(Counter(Counter(_as_list(groups)).values())),
        leaks=_leaks(data, groups, images, pairs, repeats),
    )
    return report, _sheet_rows(samples, groups, near_pairs, near.similarity, equal)


class _StoredImages:
    """The images of the data module, which are read when they are asked for."""

    def __init__(self, data: EyesDataModule) -> None:
        self._data = data

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._data.pixels(index)[:, 0]


def _equal_images(codes: NDArray[np.int64]) -> list[list[int]]:
    """The positions of images of one code, where there are several, in the order in which they first occur."""
    order = np.argsort(codes, kind="stable")
    several = np.flatnonzero(np.bincount(codes)[codes[order]] > 1)
    members: dict[int, list[int]] = {}
    for i in order[several].tolist():
        members.setdefault(int(codes[i]), []).append(i)
    return list(members.values())


def _as_list(groups: Sequence[str] | NDArray[np.int64]) -> list[object]:
    return list(groups.tolist() if isinstance(groups, np.ndarray) else groups)


def _sizes(samples: Samples) -> tuple[int, float, int] | None:
    if samples.sizes is None or not samples.sizes.any():
        return None
    known = samples.sizes[samples.sizes > 0]
    return int(known.min()), float(np.median(known)), int(known.max())


def _leaks(
    data: EyesDataModule,
    groups: Sequence[str] | NDArray[np.int64] | None,
    images: _StoredImages,
    pairs: NDArray[np.int64],
    repeats: int,
) -> dict[str, Leak]:
    test, val, samples = data.test_fraction, data.val_fraction, data.samples
    seeds = range(data.split_seed, data.split_seed + repeats)
    splits: dict[str, list[Split]] = {}
    try:
        splits["random"] = [split_at_random(samples, test, val, seed) for seed in seeds]
        if groups is not None:
            splits["person"] = [
                split_by_group(samples, groups, kind="person", test=test, val=val, seed=seed) for seed in seeds
            ]
    except UserError as error:
        _log.warning("not all splits can be compared: %s", one_line(str(error)))
    if not splits:
        return {}
    basis = principal_components(images[np.arange(0, len(samples), max(1, len(samples) // _SOME))])
    leaks = {}
    for kind, by_seed in splits.items():
        accuracies = tuple(
            nearest_neighbor_accuracy(images, samples.labels, split, seed, basis)
            for seed, split in zip(seeds, by_seed, strict=True)
        )
        across = float(np.mean([count_pairs_across(split, pairs) for split in by_seed]))
        leaks[kind] = Leak(across, float(np.mean(accuracies)), accuracies)
    return leaks


def _short(name: str) -> str:
    """A caption for a small image: `12` for `femaleeyes/12.jpg`, `000001 left` for `000001.jpg#left`."""
    path = PurePosixPath(name)
    return f"{path.stem} {path.suffix.partition('#')[2]}".rstrip()


def _sheet_rows(
    samples: Samples,
    groups: Sequence[str] | NDArray[np.int64] | None,
    near_pairs: NDArray[np.int64],
    similarity: NDArray[np.float32],
    equal: list[list[int]],
) -> list[SheetRow]:
    rows = []
    for label, name in enumerate(samples.classes):
        # Sorted by digest, so that equal data give equal sheets in an order that does not depend on names.
        some = sorted(np.flatnonzero(samples.labels == label).tolist(), key=lambda i: samples.digests[i])[:28]
        rows.append(SheetRow(f"{label} = {name}", [[i] for i in some], [_short(samples.names[i]) for i in some]))
    if equal:
        shown = equal[:14]
        rows.append(
            SheetRow("equal files", [m[:4] for m in shown], [", ".join(samples.names[i] for i in m) for m in shown])
        )
    if len(near_pairs):
        shown = near_pairs[:28].tolist()
        captions = [f"{c:.3f} {_short(samples.names[a])}" for (a, _), c in zip(shown, similarity, strict=False)]
        rows.append(SheetRow("near-duplicates, most similar first (correlation)", shown, captions))
    if groups is not None:
        members: dict[object, list[int]] = {}
        for i, group in enumerate(_as_list(groups)):
            members.setdefault(group, []).append(i)
        large = sorted(members.values(), key=lambda m: (-len(m), m[0]))
        for m in large[:2]:
            heading = f"one group: {len(m)} images" + (", the first 28" if len(m) > 28 else "")
            rows.append(SheetRow(heading, [[i] for i in m[:28]], [_short(samples.names[i]) for i in m[:28]]))
        pairs = [m for m in large if len(m) == 2]
        pairs = pairs[:: max(1, len(pairs) // 21)][:21]
        if pairs:
            rows.append(SheetRow("groups of two", pairs, [samples.names[m[0]] for m in pairs]))
    return rows
