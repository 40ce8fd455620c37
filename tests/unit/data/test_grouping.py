from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from random_images import encode, random_image, real

from eyegender.data.blocks import split_into_blocks
from eyegender.data.folder import FolderReader
from eyegender.data.grouping import Groups, consecutive_runs, find_groups, split_long_run
from eyegender.data.near_duplicates import find_near_duplicates, image_vectors
from eyegender.data.readers import Samples
from eyegender.data.splits import split_by_group

CLASSES = ["femaleeyes", "maleeyes"]


def read(root: Path) -> Samples:
    return FolderReader(root, CLASSES).read()


def together(samples: Samples, groups: Groups) -> set[frozenset[str]]:
    """Groups of two and more, by names."""
    members: dict[int, set[str]] = {}
    for name, group in zip(samples.names, groups.group.tolist(), strict=True):
        members.setdefault(group, set()).add(name)
    return {frozenset(names) for names in members.values() if len(names) > 1}


def test_runs_of_numbers_stay_together_within_a_class(folder: Callable[..., Path]) -> None:
    root = folder(range(3), range(2, 8, 2))
    samples = read(root)
    assert together(samples, find_groups(samples)) == {frozenset(f"femaleeyes/{n}.png" for n in range(3))}


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda eye: eye,
    "half the size": lambda eye: eye.resize((20, 20)),
    "darker": lambda eye: ImageEnhance.Brightness(eye).enhance(0.7),
    "flatter": lambda eye: ImageEnhance.Contrast(eye).enhance(0.5),
    "cropped": lambda eye: eye.crop((1, 0, 40, 40)),
    "mirrored": ImageOps.mirror,
    "gray and mirrored": lambda eye: ImageOps.mirror(eye.convert("L")),
}


@pytest.mark.parametrize("how", ALTERED)
def test_altered_copies_are_found_across_classes(folder: Callable[..., Path], how: str) -> None:
    root = folder()
    (root / "maleeyes" / "901.png").write_bytes(encode(ALTERED[how](random_image(10)), "JPEG", quality=60))
    samples = read(root)
    groups = find_groups(samples)
    assert together(samples, groups) == {frozenset({"femaleeyes/10.png", "maleeyes/901.png"})}
    assert len(groups.near_pairs) == 1
    assert bool(groups.mirrored[0]) == ("mirrored" in how)


def test_equal_files_are_one_group(folder: Callable[..., Path]) -> None:
    root = folder()
    (root / "maleeyes" / "901.png").write_bytes((root / "femaleeyes" / "10.png").read_bytes())
    samples = read(root)
    assert together(samples, find_groups(samples)) == {frozenset({"femaleeyes/10.png", "maleeyes/901.png"})}


def test_images_without_contrast_are_not_grouped(folder: Callable[..., Path]) -> None:
    root = folder()
    for shade in range(30):
        (root / "femaleeyes" / f"{1001 + 2 * shade}.png").write_bytes(encode(Image.new("L", (40, 40), shade * 8)))
    samples = read(root)
    assert together(samples, find_groups(samples)) == set()


def test_a_warning_says_that_images_are_too_similar(folder: Callable[..., Path]) -> None:
    root = folder(range(0, 2, 2), range(0, 8, 2))
    for number in range(101, 401, 2):
        (root / "femaleeyes" / f"{number}.png").write_bytes(
            encode(ImageEnhance.Brightness(random_image(1)).enhance(number / 500))
        )
    groups = find_groups(read(root))
    assert "too similar" in groups.warnings[0]
    assert len(groups.near_pairs) == 0


def test_a_warning_counts_names_without_numbers(folder: Callable[..., Path]) -> None:
    root = folder()
    (root / "femaleeyes" / "eve.png").write_bytes(encode(random_image(999)))
    assert find_groups(read(root)).warnings[0].startswith("1 of 41 file names contain no number")


def test_groups_depend_only_on_names_and_contents(folder: Callable[..., Path], tmp_path: Path) -> None:
    root = folder(range(5), range(0, 20, 3))
    first = find_groups(read(root))
    moved = root.rename(tmp_path / "elsewhere")
    assert np.array_equal(find_groups(read(moved)).group, first.group)


def test_groups_are_cached(folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    samples = read(folder(range(5), range(0, 20, 3)))
    first = find_groups(samples)
    with monkeypatch.context() as patch:
        patch.setattr("eyegender.data.grouping._find", lambda *_: pytest.fail("computed again"))
        assert np.array_equal(find_groups(samples).group, first.group)
    for path in (cache / "groups").iterdir():
        path.write_bytes(b"damaged")
    assert np.array_equal(find_groups(samples).group, first.group)


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        (["a/1.jpg", "a/2.jpg", "a/4.jpg"], [[0, 1], [2]]),
        (["a/9.jpg", "a/10.jpg"], [[0, 1]]),  # by number, not by name
        (["a/1.jpg", "b/2.jpg"], [[0], [1]]),  # in different folders
        (["a/000001.jpg", "a/000002.jpg"], [[0, 1]]),
        (["a/x1.jpg", "a/y2.jpg"], [[0], [1]]),  # other series
        (["a/7-left.jpg", "a/7-right.jpg", "a/9-left.jpg"], [[0, 1], [2]]),
        (["a/eve.jpg"], []),
        (["a/" + "9" * 200 + ".jpg"], [[0]]),
    ],
)
def test_consecutive_runs(names: list[str], runs: list[list[int]]) -> None:
    assert consecutive_runs(names) == runs


def test_long_runs_are_split_between_dissimilar_neighbors_only() -> None:
    rng = np.random.default_rng(0)
    similarity = rng.uniform(0.3, 0.9, 6000).astype(np.float32)
    similarity[rng.choice(6000, 600, replace=False)] = -0.5
    pieces = split_long_run(range(6001), similarity, 0.0, 64)
    assert [i for piece in pieces for i in piece] == list(range(6001))
    ends = [piece[-1] for piece in pieces[:-1]]
    assert np.all(similarity[ends] == -0.5)
    assert max(len(piece) for piece in pieces) <= 128
    assert np.mean([len(piece) <= 64 for piece in pieces]) > 0.95


def test_a_run_of_similar_neighbors_is_never_split() -> None:
    assert split_long_run(range(500), np.full(499, 0.9, dtype=np.float32), 0.0, 64) == [list(range(500))]


def test_a_gapless_folder_can_still_be_split(folder: Callable[..., Path]) -> None:
    samples = read(folder(range(300), range(300)))
    sizes = np.unique(find_groups(samples).group, return_counts=True)[1]
    assert len(sizes) >= 6
    assert sizes.max() < 200


@pytest.mark.real_eyes
def test_real_eyes_form_no_giant_groups_and_no_neighbors_are_separated() -> None:
    samples = read(real("EYEGENDER_TEST_EYES"))
    group = find_groups(samples).group
    sizes = np.unique(group, return_counts=True)[1]
    assert sizes.max() <= 64
    assert len(sizes) > len(samples) / 10
    blocks, warning = split_into_blocks(samples, group, [], 0.08)
    assert warning is None
    split = split_by_group(samples, blocks, kind="person", test=0.2, val=0.08, seed=0)
    split_of = np.zeros(len(samples), int)
    split_of[split.val], split_of[split.test] = 1, 2
    links = [link for run in consecutive_runs(samples.names) for link in pairwise(run)]
    assert len(links) > len(samples) / 2
    assert sum(int(split_of[a] != split_of[b]) for a, b in links) == 0


def test_the_search_finds_the_same_pairs_as_comparing_all_images() -> None:
    rng = np.random.default_rng(0)
    eyes = np.stack([np.asarray(random_image(seed, 32).convert("L")) for seed in range(150)])
    noise = rng.normal(0, rng.uniform(1, 25, (450, 1, 1)), (450, 32, 32))
    pixels = np.concatenate([np.clip(np.tile(eyes, (3, 1, 1)) + noise, 0, 255), eyes[:, :, ::-1]]).astype(np.uint8)
    vectors, mirrors = image_vectors(pixels)
    expected_similarity = np.maximum(vectors @ vectors.T, vectors @ mirrors.T)
    expected = {(i, j) for i, j in np.argwhere(expected_similarity >= 0.96).tolist() if i < j}
    near = find_near_duplicates(vectors, mirrors)
    assert {(i, j) for i, j in near.pairs.tolist()} == expected
    assert len(expected) > 300
    assert np.all(np.diff(near.similarity) <= 0)
