"""Numbered folders that could not be split if all neighbors counted as one person."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_images import encode, random_image

from eyegender.data.blocks import split_into_blocks
from eyegender.data.data_module import EyesDataModule
from eyegender.data.folder import FolderReader
from eyegender.data.grouping import consecutive_runs, find_groups, parse_numbered_name
from eyegender.data.readers import Samples

Names = dict[str, list[str]]


def numbered(pattern: str, count: int) -> list[str]:
    return [pattern.format(k) for k in range(count)]


SHAPES: dict[str, Names] = {
    "two long runs": {"cats": numbered("cats_{:03d}.jpg", 60), "dogs": numbered("dogs_{:03d}.jpg", 60)},
    "unequal sizes": {"cats": numbered("{}.jpg", 40), "dogs": numbered("{}.jpg", 9)},
    "tiny classes": {"cats": numbered("{}.jpg", 3), "dogs": numbered("{}.jpg", 4)},
    "one run and two short ones": {
        "cats": [*numbered("a{}.jpg", 40), *numbered("b{}.jpg", 3)],
        "dogs": [*numbered("dog ({}).jpg", 30), "lone 7.jpg"],
    },
    "one number each, and a letter": {
        "cats": [f"IMG_2024_{letter}.jpg" for letter in "abcdefghijklmnop"],
        "dogs": numbered("{}.jpg", 30),
    },
    "left and right": {
        "cats": [f"{k}-{side}.jpg" for k in range(12) for side in ("left", "right")],
        "dogs": numbered("{}.jpg", 24),
    },
    "one class is fine": {"cats": numbered("{}0.jpg", 30), "dogs": numbered("{}.jpg", 30)},
}


def make(root: Path, names: Names) -> Path:
    for label, (folder, files) in enumerate(names.items()):
        (root / folder).mkdir(parents=True)
        for k, name in enumerate(files):
            # Neighbors are similar, as images of a series are: no run is split between them.
            image = Image.blend(random_image(label), random_image(1000 * label + k + 2), 0.45)
            (root / folder / name).write_bytes(encode(image))
    return root


def module(root: Path, names: Names, **options: object) -> EyesDataModule:
    data = EyesDataModule(FolderReader(root, list(names)), 16, **options)  # type: ignore[arg-type]
    data.setup()
    return data


def separated(samples: Samples, data: EyesDataModule) -> tuple[int, int]:
    """The number of pairs of neighbors in different splits, and of all pairs."""
    split = np.zeros(len(samples), int)
    for number, name in enumerate(("train", "val", "test")):
        split[data.split.index(name)] = number
    links = [link for run in consecutive_runs(samples.names) for link in pairwise(run)]
    return sum(int(split[a] != split[b]) for a, b in links), len(links)


@pytest.mark.parametrize("shape", SHAPES)
def test_numbered_images_of_other_objects_can_be_split(
    tmp_path: Path, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = SHAPES[shape]
    root = make(tmp_path / "set", names)
    for seed in range(3):
        data = module(root, names, test_fraction=0.2, val_fraction=0.08, seed=seed)
        assert data.split.kind == "blocks"
        assert data.groups is not None
        # Neighbors are separated only at the end of a block.
        apart, links = separated(data.samples, data)
        between_blocks = sum(
            int(data.groups[a] != data.groups[b])
            for run in consecutive_runs(data.samples.names)
            for a, b in pairwise(run)
        )
        assert apart <= between_blocks
        assert f"and {between_blocks} of {links} pairs of neighbors may be in two splits" in caplog.text
        for name in ("train", "val", "test"):
            assert set(data.samples.labels[data.split.index(name)].tolist()) == {0, 1}
    warnings = [record for record in caplog.records if "NEIGHBORS MAY BE SEPARATED" in record.message]
    assert len(warnings) == 3
    assert "\n" not in warnings[0].message


def test_blocks_are_as_long_as_the_splits_allow(tmp_path: Path) -> None:
    names = SHAPES["two long runs"]
    data = module(make(tmp_path / "set", names), names, test_fraction=0.2, val_fraction=0.1)
    assert data.groups is not None
    assert np.unique(data.groups, return_counts=True)[1].tolist() == [6] * 20
    assert data.counts()["test"] == {"cats": 12, "dogs": 12}
    assert data.counts()["val"] == {"cats": 6, "dogs": 6}
    where = [parse_numbered_name(name) for name in data.samples.names]
    for block in np.unique(data.groups):
        numbers = sorted(where[i][2] for i in np.flatnonzero(data.groups == block))
        assert numbers == list(range(numbers[0], numbers[0] + 6))


@pytest.mark.parametrize(("count", "sizes"), [(3, [1, 1, 1]), (5, [1] * 5), (6, [2, 2, 2]), (9, [2, 2, 2, 2, 1])])
def test_the_blocks_of_small_classes_are_pairs_if_possible(count: int, sizes: list[int]) -> None:
    names = tuple(f"{label}/{k:03d}.png" for label in "ab" for k in range(count))
    labels = np.repeat(np.array([0, 1], np.uint8), count)
    samples = Samples("made up", names, labels, tuple(map(str, range(2 * count))), lambda i: Image.new("L", (8, 8), i))
    blocks, _ = split_into_blocks(samples, labels.astype(np.int64), [], 0.08)
    assert np.unique(blocks, return_counts=True)[1].tolist() == sizes * 2


def test_a_small_class_does_not_shorten_the_blocks_of_the_other(tmp_path: Path) -> None:
    names = {"cats": numbered("{}.jpg", 40), "dogs": numbered("{}.jpg", 3)}
    data = module(make(tmp_path / "set", names), names)
    assert data.groups is not None
    assert np.unique(data.groups[data.samples.labels == 0], return_counts=True)[1].tolist() == [4] * 10
    assert data.counts() == {
        "train": {"cats": 28, "dogs": 1},
        "val": {"cats": 4, "dogs": 1},
        "test": {"cats": 8, "dogs": 1},
    }


def test_files_with_the_same_number_stay_together(tmp_path: Path) -> None:
    names = SHAPES["left and right"]
    data = module(make(tmp_path / "set", names), names)
    assert data.groups is not None
    group_of = dict(zip(data.samples.names, data.groups.tolist(), strict=True))
    assert all(group_of[f"cats/{k}-left.jpg"] == group_of[f"cats/{k}-right.jpg"] for k in range(12))


def test_near_duplicates_stay_together_across_blocks(tmp_path: Path) -> None:
    names = SHAPES["two long runs"]
    root = make(tmp_path / "set", names)
    eye = Image.open(root / "cats" / "cats_003.jpg")
    (root / "cats" / "cats_050.jpg").write_bytes(encode(eye.resize((36, 36))))
    (root / "cats" / "cats_020.jpg").write_bytes((root / "cats" / "cats_040.jpg").read_bytes())
    data = module(root, names)
    assert data.split.kind == "blocks"
    assert data.groups is not None
    group_of = dict(zip(data.samples.names, data.groups.tolist(), strict=True))
    assert group_of["cats/cats_003.jpg"] == group_of["cats/cats_050.jpg"]
    assert group_of["cats/cats_020.jpg"] == group_of["cats/cats_040.jpg"]


def test_frames_of_a_film_are_split_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each is a near-duplicate of the next."""
    names = {"cats": numbered("frame{:03d}.jpg", 40), "dogs": numbered("{}.jpg", 40)}
    for label, (folder, files) in enumerate(names.items()):
        (tmp_path / folder).mkdir()
        for k, name in enumerate(files):
            (tmp_path / folder / name).write_bytes(
                encode(Image.blend(random_image(label), random_image(label + 2), k / 40))
            )
    data = module(tmp_path, names)
    assert data.split.kind == "blocks"
    assert "pairs of near-duplicates may be in two splits" in caplog.text
    apart, links = separated(data.samples, data)
    assert apart < links / 2


def test_runs_across_classes_are_split_too() -> None:
    names = tuple(f"{k:03d}.png" for k in range(60))
    labels = np.array([k % 2 for k in range(60)], dtype=np.uint8)
    samples = Samples("made up", names, labels, tuple(map(str, range(60))), lambda i: Image.new("L", (8, 8), i))
    blocks, warning = split_into_blocks(samples, np.zeros(60, np.int64), [], 0.1)
    assert np.unique(blocks, return_counts=True)[1].tolist() == [3] * 20
    assert np.all(np.diff(blocks) >= 0)
    assert warning is not None
    assert "19 of 59 pairs" in warning


def test_the_warning_names_only_the_classes_with_the_fewest_groups() -> None:
    names = tuple(f"{k:03d}.png" for k in range(90))
    labels = np.repeat(np.arange(9, dtype=np.uint8), 10)
    classes = tuple(f"kind {label}" for label in range(9))
    digests = tuple(map(str, range(90)))
    samples = Samples("made up", names, labels, digests, lambda i: Image.new("L", (8, 8), i), classes)
    _, warning = split_into_blocks(samples, np.zeros(90, np.int64), [], 0.1)
    assert warning is not None
    assert warning.count("images of class") == 3
    assert "and few of 6 more classes" in warning


def test_three_groups_of_a_class_are_not_split_but_reported(
    folder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = folder([*range(20), *range(30, 50), *range(60, 80)], range(0, 120, 2))  # type: ignore[arg-type]
    data = module(root, {"femaleeyes": [], "maleeyes": []})
    assert data.split.kind == "person"
    assert data.counts()["val"] == {"femaleeyes": 20, "maleeyes": 6}
    assert "20 instead of 6 of class 'femaleeyes' in val" in caplog.text


def test_enough_groups_are_not_split(folder: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    root = folder([*range(6), *range(10, 16), *range(20, 26)], range(0, 40, 2))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        data = module(root, {"femaleeyes": [], "maleeyes": []})
    assert data.split.kind == "person"
    assert np.array_equal(data.groups, find_groups(data.samples).group)  # type: ignore[arg-type]
    assert "NEIGHBORS MAY BE SEPARATED" not in caplog.text
