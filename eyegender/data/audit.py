"""What is in a data set, worked out before anyone trains on it."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import UserError, one_line
from eyegender.data.leakage import nearest_neighbour_accuracy, pairs_across
from eyegender.data.near_duplicates import describe, find_near_duplicates
from eyegender.data.split_warnings import parted_persons
from eyegender.data.splits import Split, split_at_random, split_by_group
from eyegender.plots.contact_sheet import SheetRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eyegender.data.data_module import EyesDataModule
    from eyegender.data.samples import Samples

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NearPair:
    """Two pictures of one photograph; `alike` is their correlation, up to 1, `in_both` whether their labels differ."""

    first: str
    second: str
    alike: float
    mirrored: bool
    in_both: bool


@dataclass(frozen=True)
class Leak:
    """What a kind of split gives away, over several seeds.

    Args:
        across: pairs of duplicates and near-duplicates with one picture in test and one outside, mean over seeds.
        accuracy: of a nearest neighbour on raw pixels, mean over seeds.
        accuracies: by seed.
    """

    across: float
    accuracy: float
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class AuditReport:
    """Findings on one data set, as a run with this config would see it.

    Args:
        source: the reader's name.
        counts: pictures per class.
        split_kind: how the configured split is made.
        split_counts: pictures per part and class; empty where no split can be made.
        no_split: why none can be made, else empty.
        parted_persons: persons in more than one part of the split: the parts by person; None where nobody knows them.
        sizes: smallest, median and largest side lengths in pixels, or None where they are not known.
        unreadable: reasons by name.
        duplicates: names of pictures with the same content, one entry per content.
        conflicts: names of the copies of each picture that lies in both classes, by bytes or by pixels.
        near_pairs: near-duplicates, most alike first.
        near_gave_up: pictures are too alike for a search.
        group_sizes: how many groups (persons, or what stands for them) hold how many pictures; None where unknown.
        leaks: by kind of split, `random` and, where groups are known, `person`.
    """

    source: str
    counts: Mapping[str, int]
    split_kind: str
    split_counts: Mapping[str, Mapping[str, int]]
    no_split: str
    parted_persons: Mapping[str, tuple[str, ...]] | None
    sizes: tuple[int, float, int] | None
    unreadable: Mapping[str, str]
    duplicates: tuple[tuple[str, ...], ...]
    conflicts: tuple[tuple[str, ...], ...]
    near_pairs: tuple[NearPair, ...]
    near_gave_up: bool
    group_sizes: Mapping[int, int] | None
    leaks: Mapping[str, Leak]

    @property
    def gain(self) -> tuple[float, float] | None:
        """What a nearest neighbour gains from a random split, in accuracy, and its standard error; None if unknown."""
        if not {"random", "person"} <= set(self.leaks):
            return None
        each = np.subtract(self.leaks["random"].accuracies, self.leaks["person"].accuracies)
        error = float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")
        return float(each.mean()), error


def examine(data: EyesDataModule, repeats: int = 5) -> tuple[AuditReport, list[SheetRow]]:
    """The report on a data module that was read but not split, and rows for a contact sheet.

    Args:
        data: read with `on_bad=skip` and `on_conflict=keep`, at 32 x 32 gray, as near-duplicates are searched.
        repeats: seeds over which splits are compared, 1 or more.
    """
    no_split = ""
    try:
        data.make_split()
    except UserError as error:
        no_split = str(error)
    samples = data.samples
    rows = data.store.rows(samples.digests)
    pixels = data.store.read(rows)[:, 0]
    same = _same_content(samples)
    first_of = np.array([same[digest][0] for digest in samples.digests], dtype=np.int64)
    unique = np.unique(first_of)
    near = find_near_duplicates(*describe(pixels[unique]))
    near_pairs = unique[near.pairs]
    twins = [members for members in same.values() if len(members) > 1]
    pairs = np.concatenate([near_pairs, [(m[0], other) for m in twins for other in m[1:]]]) if twins else near_pairs

    groups: Sequence[str] | NDArray[np.int64] | None = samples.persons if data.groups is None else data.groups
    report = AuditReport(
        source=samples.source,
        counts={name: int(np.sum(samples.labels == label)) for label, name in enumerate(samples.classes)},
        split_kind=data.split_by if no_split else data.split.kind,
        split_counts={} if no_split else data.counts(),
        no_split=no_split,
        parted_persons=None if no_split or samples.persons is None else parted_persons(samples.persons, data.split),
        sizes=_sizes(samples),
        unreadable=data.skipped,
        duplicates=tuple(tuple(samples.names[i] for i in members) for members in twins),
        conflicts=data.conflicts,
        near_pairs=tuple(
            NearPair(
                samples.names[a],
                samples.names[b],
                float(alike),
                bool(mirrored),
                in_both=bool(samples.labels[a] != samples.labels[b]),
            )
            for (a, b), alike, mirrored in zip(near_pairs.tolist(), near.alike, near.mirrored, strict=True)
        ),
        near_gave_up=near.gave_up,
        group_sizes=None if groups is None else dict(Counter(Counter(_plain(groups)).values())),
        leaks=_leaks(data, groups, pixels, pairs, repeats),
    )
    return report, _sheet_rows(samples, groups, near_pairs, near.alike, twins)


def _same_content(samples: Samples) -> dict[str, list[int]]:
    same: dict[str, list[int]] = {}
    for i, digest in enumerate(samples.digests):
        same.setdefault(digest, []).append(i)
    return same


def _plain(groups: Sequence[str] | NDArray[np.int64]) -> list[object]:
    return list(groups.tolist() if isinstance(groups, np.ndarray) else groups)


def _sizes(samples: Samples) -> tuple[int, float, int] | None:
    if samples.sizes is None or not samples.sizes.any():
        return None
    known = samples.sizes[samples.sizes > 0]
    return int(known.min()), float(np.median(known)), int(known.max())


def _leaks(
    data: EyesDataModule,
    groups: Sequence[str] | NDArray[np.int64] | None,
    pixels: NDArray[np.uint8],
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
    leaks = {}
    for kind, several in splits.items():
        accuracies = tuple(
            nearest_neighbour_accuracy(pixels, samples.labels, split, seed)
            for seed, split in zip(seeds, several, strict=True)
        )
        across = float(np.mean([pairs_across(split, pairs) for split in several]))
        leaks[kind] = Leak(across, float(np.mean(accuracies)), accuracies)
    return leaks


def _short(name: str) -> str:
    """`12` of `femaleeyes/12.jpg`, `000001 left` of `000001.jpg#left`: what fits below a small picture."""
    path = PurePosixPath(name)
    return f"{path.stem} {path.suffix.partition('#')[2]}".rstrip()


def _sheet_rows(
    samples: Samples,
    groups: Sequence[str] | NDArray[np.int64] | None,
    near_pairs: NDArray[np.int64],
    alike: NDArray[np.float32],
    twins: list[list[int]],
) -> list[SheetRow]:
    rows = []
    for label, name in enumerate(samples.classes):
        # By content, so that the same data give the same sheet, and in no order that names or numbers bring.
        some = sorted(np.flatnonzero(samples.labels == label).tolist(), key=lambda i: samples.digests[i])[:28]
        rows.append(SheetRow(f"{label} = {name}", [[i] for i in some], [_short(samples.names[i]) for i in some]))
    if twins:
        shown = twins[:14]
        rows.append(
            SheetRow("equal files", [m[:4] for m in shown], [", ".join(samples.names[i] for i in m) for m in shown])
        )
    if len(near_pairs):
        shown = near_pairs[:28].tolist()
        captions = [f"{c:.3f} {_short(samples.names[a])}" for (a, _), c in zip(shown, alike, strict=False)]
        rows.append(SheetRow("near-duplicates, most alike first (correlation)", shown, captions))
    if groups is not None:
        members: dict[object, list[int]] = {}
        for i, group in enumerate(_plain(groups)):
            members.setdefault(group, []).append(i)
        large = sorted(members.values(), key=lambda m: (-len(m), m[0]))
        for m in large[:2]:
            heading = f"kept together: {len(m)} pictures" + (", the first 28" if len(m) > 28 else "")
            rows.append(SheetRow(heading, [[i] for i in m[:28]], [_short(samples.names[i]) for i in m[:28]]))
        pairs = [m for m in large if len(m) == 2]
        pairs = pairs[:: max(1, len(pairs) // 21)][:21]
        if pairs:
            rows.append(SheetRow("kept together: two and two", pairs, [samples.names[m[0]] for m in pairs]))
    return rows
