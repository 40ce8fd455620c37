"""The guarantees of every kind of split, on made-up data sets."""

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.data.readers import Samples
from eyegender.data.split_file import read_split_csv
from eyegender.data.splits import (
    SPLITS,
    Split,
    official_split,
    sample_subset,
    split_at_random,
    split_by_group,
    warn_separated_persons,
)


def made_up(labels: list[int], splits: list[str] | None = None) -> Samples:
    names = tuple(f"{i:05d}.png" for i in range(len(labels)))
    return Samples(
        source="made up",
        names=names,
        labels=np.array(labels, dtype=np.uint8),
        digests=tuple(hashlib.sha256(name.encode()).hexdigest() for name in names),
        open=lambda i: Image.new("L", (8, 8), i % 256),
        splits=None if splits is None else tuple(splits),
    )


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Samples, list[str]]:
    """Persons with 1 to 12 images of one class each, and enough persons in each class."""
    labels: list[int] = []
    persons: list[str] = []
    for label in (0, 1):
        for person, size in enumerate(draw(st.lists(st.integers(1, 12), min_size=12, max_size=40))):
            labels += [label] * size
            persons += [f"{label}-{person}"] * size
    return made_up(labels), persons


def content(samples: Samples, split: Split) -> dict[str, set[str]]:
    return {name: {samples.digests[i] for i in split.index(name)} for name in SPLITS}


def write_split(path: Path, samples: Samples, split: Split, persons: list[str] | None = None) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "person"])
        for name in SPLITS:
            for i in split.index(name):
                writer.writerow([samples.names[i], samples.labels[i], name, persons[i] if persons else ""])


@given(crowds(), st.integers(0, 2**32 - 1))
def test_a_split_by_person_keeps_persons_and_fractions(crowd: tuple[Samples, list[str]], seed: int) -> None:
    samples, persons = crowd
    split = split_by_group(samples, persons, kind="person", test=0.2, val=0.1, seed=seed)
    everything = np.concatenate([split.train, split.val, split.test])
    # Each image is in one split.
    assert sorted(everything.tolist()) == list(range(len(samples)))
    # No person is in two splits.
    where: dict[str, set[str]] = {}
    for name in SPLITS:
        for i in split.index(name):
            where.setdefault(persons[i], set()).add(name)
    assert all(len(names) == 1 for names in where.values())
    # Fractions hold in each class, within the size of one person.
    for label in (0, 1):
        total = np.sum(samples.labels == label)
        for name, fraction in (("test", 0.2), ("val", 0.1)):
            assert abs(np.sum(samples.labels[split.index(name)] == label) - fraction * total) <= 12
            assert np.any(samples.labels[split.index(name)] == label)


@given(crowds(), st.integers(0, 99), st.randoms(use_true_random=False))
def test_listing_order_does_not_matter(crowd: tuple[Samples, list[str]], seed: int, random: object) -> None:
    samples, persons = crowd
    order = np.array(random.sample(range(len(samples)), len(samples)))  # type: ignore[attr-defined]
    other, others = samples.take(order), [persons[i] for i in order]
    fractions = {"test": 0.2, "val": 0.1, "seed": seed}
    for one, two in (
        (
            split_by_group(samples, persons, kind="person", **fractions),
            split_by_group(other, others, kind="person", **fractions),
        ),
        (split_at_random(samples, **fractions), split_at_random(other, **fractions)),
    ):
        assert content(samples, one) == content(other, two)
        assert one.fingerprint == two.fingerprint


@given(crowds(), st.integers(0, 99))
def test_the_seed_determines_the_split(crowd: tuple[Samples, list[str]], seed: int) -> None:
    samples, persons = crowd
    splits = [
        split_by_group(samples, persons, kind="person", test=0.2, val=0.1, seed=s) for s in (seed, seed, seed + 1)
    ]
    assert splits[0].fingerprint == splits[1].fingerprint
    assert splits[0].fingerprint != splits[2].fingerprint


@given(st.integers(10, 300), st.integers(10, 300), st.integers(0, 99))
def test_random_splits_are_exact_in_each_class(female: int, male: int, seed: int) -> None:
    samples = made_up([0] * female + [1] * male)
    counts = split_at_random(samples, 0.2, 0.1, seed).counts(samples)
    assert counts["test"] == {"female": round(female * 0.2), "male": round(male * 0.2)}
    assert counts["val"] == {"female": round(female * 0.1), "male": round(male * 0.1)}


def test_single_images_fill_the_gaps_of_large_groups() -> None:
    sizes = [40, 33, 21, 9, 8, *[1] * 60]
    persons = [str(person) for person, size in enumerate(sizes) for _ in range(size)]
    samples = made_up([0] * len(persons) + [1] * 100)
    persons += [f"m{i // 2}" for i in range(100)]
    for seed in range(20):
        counts = split_by_group(samples, persons, kind="person", test=0.2, val=0.1, seed=seed).counts(samples)
        assert counts["test"] == {"female": round(0.2 * sum(sizes)), "male": 20}


def test_large_groups_are_not_always_in_the_training_set() -> None:
    persons = [str(i // 10) for i in range(100)] + [f"m{i}" for i in range(100)]
    samples = made_up([0] * 100 + [1] * 100)
    tested = {persons[i] for seed in range(30)
              for i in split_by_group(samples, persons, kind="person", test=0.2, val=0.1, seed=seed).test}  # fmt: skip
    assert len([person for person in tested if not person.startswith("m")]) == 10


@pytest.mark.parametrize(("test", "val"), [(0, 0.1), (0.2, 0), (0.5, 0.5), (1, 0.1), (-0.1, 0.1), (float("nan"), 0.1)])
def test_fractions_are_checked(test: float, val: float) -> None:
    with pytest.raises(UserError, match=r"data.split.test and data.split.val must be above 0"):
        split_at_random(made_up([0, 1] * 20), test, val, 0)


def test_two_persons_of_a_class_cannot_be_split_in_three() -> None:
    samples = made_up([0] * 10 + [1] * 10)
    persons = [str(i // 5) for i in range(10)] + [f"m{i}" for i in range(10)]
    with pytest.raises(UserError, match="need at least one person each of class 'female', got 2"):
        split_by_group(samples, persons, kind="person", test=0.2, val=0.1, seed=0)


def test_groups_of_other_images_are_not_called_persons(caplog: pytest.LogCaptureFixture) -> None:
    samples = replace(made_up([0] * 10 + [1] * 10), classes=("ant", "bee"))
    groups = [str(i // 5) for i in range(10)] + [f"m{i}" for i in range(10)]
    with pytest.raises(UserError, match="need at least one image group each of class 'ant', got 2") as error:
        split_by_group(samples, groups, kind="person", test=0.2, val=0.1, seed=0)
    assert "person" not in str(error.value)
    split = split_at_random(samples, 0.3, 0.3, 0)
    warn_separated_persons(replace(samples, persons=tuple(groups)), split)
    assert "IMAGE GROUPS IN SEVERAL SPLITS" in caplog.text
    assert "person" not in caplog.text.replace("data.split.by=person", "")


def test_official_needs_a_partition() -> None:
    with pytest.raises(UserError, match="needs a data set with an official partition, got made up"):
        official_split(made_up([0, 1]))
    samples = made_up([0, 1] * 3, ["train", "train", "val", "val", "test", "test"])
    assert official_split(samples).test.tolist() == [4, 5]
    with pytest.raises(UserError, match="no female in val, no male in val"):
        official_split(made_up([0, 1] * 2, ["train", "train", "test", "test"]))


def test_a_subset_has_the_given_sizes_and_follows_the_seed() -> None:
    samples = made_up([0, 1] * 50)
    first, again, other = (sample_subset(samples, {"female": 7, "male": 5}, seed) for seed in (1, 1, 2))
    assert np.bincount(samples.labels[first]).tolist() == [7, 5]
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize(
    "subset", [{"female": 7}, {"female": 7, "man": 5}, {"female": 51, "male": 5}, {"female": 1, "male": 5}]
)
def test_impossible_subsets_are_refused(subset: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"data\.subset"):
        sample_subset(made_up([0, 1] * 50), subset, 0)


def test_a_written_split_is_read_back(tmp_path: Path) -> None:
    samples = made_up([0, 1] * 30)
    persons = [str(i // 4) for i in range(60)]
    split = split_by_group(samples, persons, kind="person", test=0.2, val=0.1, seed=3)
    write_split(tmp_path / "split.csv", samples, split, persons)
    back = read_split_csv(tmp_path / "split.csv", samples)
    assert all(np.array_equal(split.index(name), back.index(name)) for name in SPLITS)
    assert back.kind == "file"


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("nobody.png,0,train,", "no image 'nobody.png' in the data"),
        ("00000.png,0,train,", "'00000.png' a second time"),
        ("00006.png,0,dev,", "split must be train, val or test, got 'dev'"),
        ("00006.png,male,train,", "'00006.png' is female, got 'male'"),
        ("00006.png,0,test,a", "person 'a' in test and in train"),
        ("00006.png,0,train,a,b", "more cells than the first line has columns"),
    ],
)
def test_rows_that_do_not_match_the_data_are_listed(tmp_path: Path, row: str, fault: str) -> None:
    samples = made_up([0, 1] * 4)
    rows = ["00000.png,0,train,a", "00001.png,male,train,b", "00002.png,0,val,", "00003.png,1,val,",
            "00004.png,female,test,", "00005.png,1,test,"]  # fmt: skip
    path = tmp_path / "split.csv"
    path.write_text("\n".join(["path,label,split,person", *rows]))
    assert read_split_csv(path, samples).train.tolist() == [0, 1]
    path.write_text("\n".join(["path,label,split,person", *rows, row]))
    with pytest.raises(UserError, match="got 1 that do not") as caught:
        read_split_csv(path, samples)
    assert caught.value.details == (f"line 8: {fault}",)


def test_split_files_are_checked_before_they_are_read(tmp_path: Path) -> None:
    samples = made_up([0, 1] * 4)
    with pytest.raises(UserError, match="must be a readable CSV file"):
        read_split_csv(tmp_path / "none.csv", samples)
    (tmp_path / "split.csv").write_text("file,label\n")
    with pytest.raises(UserError, match="without path, split"):
        read_split_csv(tmp_path / "split.csv", samples)


def test_rows_of_skipped_images_are_allowed(tmp_path: Path) -> None:
    samples = made_up([0, 1] * 6)
    split = split_at_random(samples, 0.3, 0.2, 0)
    write_split(tmp_path / "split.csv", samples, split)
    skipped = int(split.train[0])
    rest = samples.take(np.array([i for i in range(12) if i != skipped]))
    assert len(read_split_csv(tmp_path / "split.csv", rest, [samples.names[skipped]]).train) == len(split.train) - 1


@pytest.mark.parametrize("classes", [2, 12])
def test_the_fingerprint_is_the_hash_of_sorted_lines(classes: int) -> None:
    samples = made_up([i % classes for i in range(240)])
    samples = replace(samples, classes=tuple(f"class {k}" for k in range(classes)))
    # Equal images, and digests of different lengths, as in made-up data sets.
    for digests in (samples.digests, (*samples.digests[:120], *samples.digests[:120]), tuple(map(str, range(240)))):
        split = split_at_random(replace(samples, digests=digests), 0.2, 0.1, 3)
        lines = [f"{name} {samples.labels[i]} {digests[i]}" for name in SPLITS for i in split.index(name)]
        expected = hashlib.sha256("\n".join(["random", *sorted(lines)]).encode()).hexdigest()
        assert split.fingerprint == expected


def test_splits_are_those_of_earlier_versions() -> None:
    """Runs of earlier versions go on with their split: these fingerprints never change."""
    samples = made_up([i % 2 for i in range(300)])
    persons = [f"p{i * i % 97}" for i in range(300)]
    found = [
        split_by_group(samples, persons, kind="person", test=0.2, val=0.1, seed=1).fingerprint,
        split_by_group(samples, np.arange(300) // 3, kind="person", test=0.3, val=0.1, seed=2).fingerprint,
        split_at_random(samples, 0.2, 0.1, 1).fingerprint,
        hashlib.sha256(sample_subset(samples, {"female": 50, "male": 20}, 4).tobytes()).hexdigest(),
    ]
    assert [fingerprint[:12] for fingerprint in found] == [
        "dd07ead4c627",
        "3ccbaffd4ccb",
        "c0fdff9453d6",
        "bf4777e69d3a",
    ]
