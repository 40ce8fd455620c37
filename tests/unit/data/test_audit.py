"""The findings of an audit, which is always completed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from random_images import encode, random_image
from rich.console import Console

from eyegender.audit import audit, print_report
from eyegender.core.errors import UserError
from eyegender.data.audit import AuditReport
from eyegender.data.celeba import CelebaReader
from eyegender.data.data_module import EyesDataModule
from eyegender.data.folder import FolderReader
from eyegender.data.splits import Split, leakage
from eyegender.data.splits.leakage import count_pairs_across, nearest_neighbor_accuracy

CLASSES = ["femaleeyes", "maleeyes"]


def audited(root: Path, output: Path, **options: object) -> tuple[AuditReport, str]:
    report = audit(FolderReader(root, CLASSES), output, repeats=2, **options)
    assert (output / "contact_sheet.png").stat().st_size
    assert json.loads((output / "audit.json").read_text())["no_split"] == report.no_split
    return report, shown(report, output)


def shown(report: AuditReport, output: Path) -> str:
    text = io.StringIO()
    print_report(report, output, Console(file=text, width=200))
    return text.getvalue()


@pytest.mark.parametrize("count", [2, 3, 4, 12])
def test_a_few_numbered_images_are_audited(folder: Callable[..., Path], tmp_path: Path, count: int) -> None:
    report, text = audited(folder(range(count), range(count)), tmp_path / "out")
    if count < 3:
        assert report.no_split == (
            "train, val and test need at least one image each of class 'femaleeyes', got 2, "
            "of class 'maleeyes', got 2; add images"
        )
        assert f"no split: {report.no_split}" in text
        assert report.split_counts == {}
    else:
        assert report.split_kind == "blocks"
        assert min(counts["maleeyes"] for counts in report.split_counts.values()) >= 1


def test_a_data_set_without_a_readable_image_is_audited(folder: Callable[..., Path], tmp_path: Path) -> None:
    root = folder(range(4), range(4))
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    report, _ = audited(root, tmp_path / "out")
    assert len(report.unreadable) == 8
    assert report.counts == {"femaleeyes": 0, "maleeyes": 0}
    assert "got 0" in report.no_split


def test_many_copies_of_one_image_are_audited(folder: Callable[..., Path], tmp_path: Path) -> None:
    root = folder(range(6), range(6))
    for path in (root / "femaleeyes").iterdir():
        path.write_bytes(encode(random_image(3)))
    report, _ = audited(root, tmp_path / "out")
    assert report.no_split.startswith(
        "train, val and test need at least one person each of class 'femaleeyes', got 1 in 6"
    )
    assert "set data.split.by=random" in report.no_split


@pytest.mark.parametrize("options", [{"split_by": "official"}, {"split_by": "file", "split_file": "gone.csv"}])
def test_a_split_that_cannot_be_made_is_a_finding(
    folder: Callable[..., Path], tmp_path: Path, options: dict[str, object]
) -> None:
    report, text = audited(folder(), tmp_path / "out", **options)
    assert "data.split." in report.no_split
    assert "no split: data.split." in text
    with pytest.raises(UserError):
        EyesDataModule(FolderReader(tmp_path / "eyes", CLASSES), 16, **options).setup()  # type: ignore[arg-type]


def test_control_characters_in_names_are_escaped(folder: Callable[..., Path], tmp_path: Path) -> None:
    root = folder()
    for name in ("a\nb\x1b[31m[red].png", "\u202egnp.png", os.fsdecode(b"\xff.png")):
        (root / "femaleeyes" / name).write_bytes((root / "femaleeyes" / "2.png").read_bytes())
        (root / "maleeyes" / name).write_bytes(b"no image")
    _, text = audited(root, tmp_path / "out")
    text.encode()
    assert all(line.isprintable() for line in text.splitlines())
    assert r"a\nb\x1b[31m[red].png: not a JPEG" in text


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """Thirty faces of fifteen persons, two of each, in turn female and male."""
    home = tmp_path / "celeba"
    (home / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(30)]
    for number, name in enumerate(names):
        (home / "img_align_celeba" / name).write_bytes(encode(random_image(number, 60), "JPEG"))
    columns = " ".join(["Male", *(f"a{k}" for k in range(39))])
    attributes = [f"{name} {'1 ' if k // 2 % 2 else '-1 '}{'1 ' * 39}" for k, name in enumerate(names)]
    (home / "list_attr_celeba.txt").write_text("\n".join(["30", columns, *attributes]))
    points = " ".join(f"p{k}" for k in range(10))
    landmarks = [f"{name} 20 20 40 20 30 30 20 40 40 40" for name in names]
    (home / "list_landmarks_align_celeba.txt").write_text("\n".join(["30", points, *landmarks]))
    (home / "identity_CelebA.txt").write_text("\n".join(f"{name} {k // 2}" for k, name in enumerate(names)))
    (home / "list_eval_partition.txt").write_text("\n".join(f"{name} {k % 3}" for k, name in enumerate(names)))
    return home


def test_persons_in_several_official_splits_are_reported_by_audit_and_training(
    celeba: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = audit(CelebaReader(celeba), tmp_path / "out", repeats=1, split_by="official")
    assert report.separated_persons is not None
    assert len(report.separated_persons) == 15
    assert report.separated_persons["0"] == ("train", "val")
    assert "person in several splits: 0: train, val" in shown(report, tmp_path)
    caplog.clear()
    EyesDataModule(CelebaReader(celeba), 16, split_by="official").setup()
    assert (
        "official puts images of 15 of 15 persons into more than one split (person 0 into train and val first)"
        in caplog.text
    )
    caplog.clear()
    partition = "\n".join(f"{k:06d}.jpg {k // 4 % 3}" for k in range(30))
    (celeba / "list_eval_partition.txt").write_text(partition)
    report = audit(CelebaReader(celeba), tmp_path / "out", repeats=1, split_by="official")
    assert report.separated_persons == {}
    assert "persons" not in caplog.text


def test_faces_of_unknown_persons_are_audited(celeba: Path, tmp_path: Path) -> None:
    (celeba / "identity_CelebA.txt").unlink()
    report = audit(CelebaReader(celeba), tmp_path / "out", repeats=1)
    assert "needs to know who is who" in report.no_split
    assert list(report.leaks) == ["random"]
    assert report.separated_persons is None


def test_two_images_of_a_class_are_too_few_for_every_split(folder: Callable[..., Path]) -> None:
    root = folder(range(2), range(0, 40, 2))
    for split_by in ("person", "random"):
        with pytest.raises(UserError, match=r"add images$") as caught:
            EyesDataModule(FolderReader(root, CLASSES), 16, split_by=split_by).setup()
        assert "2" in str(caught.value)
    np.testing.assert_equal(len(list((root / "femaleeyes").iterdir())), 2)


def split(train: list[int], val: list[int], test: list[int]) -> Split:
    return Split("made up", *(np.array(index, dtype=np.int64) for index in (train, val, test)), fingerprint="")


def test_pairs_count_if_one_image_is_in_the_test_set() -> None:
    pairs = np.array([[0, 1], [1, 2], [2, 4], [4, 5], [4, 6]])  # 6 is in no split
    assert count_pairs_across(split([0, 1], [2], [4, 5]), pairs) == 1
    assert count_pairs_across(split([0, 4], [1], [2, 5]), pairs) == 3
    assert count_pairs_across(split([0, 4], [1], [2, 5]), pairs[:0]) == 0


def test_copies_of_test_images_are_found_whatever_their_brightness() -> None:
    rng = np.random.default_rng(0)
    eyes = rng.integers(40, 160, (20, 8, 8)).astype(np.uint8)
    pixels = np.concatenate([eyes, eyes + 60])
    labels = np.tile(rng.integers(0, 2, 20), 2).astype(np.uint8)
    assert nearest_neighbor_accuracy(pixels, labels, split(list(range(19)), [19], list(range(20, 40)))) == 1
    guessed = nearest_neighbor_accuracy(pixels, labels, split([*range(10), *range(20, 29)], [29], [*range(10, 20)]))
    assert guessed < 1


@pytest.mark.parametrize("most_candidates", [0.0, 1.0])
def test_the_bound_leaves_the_nearest_neighbor_as_it_is(
    monkeypatch: pytest.MonkeyPatch, most_candidates: float
) -> None:
    monkeypatch.setattr(leakage, "_MOST_CANDIDATES", most_candidates)
    monkeypatch.setattr(leakage, "_PRINCIPAL_COMPONENTS", 10)
    monkeypatch.setattr(leakage, "_BLOCK", 90)
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (450, 4, 4))
    images = np.clip(np.kron(coarse, np.ones((4, 4))) + rng.normal(0, 20, (450, 16, 16)), 0, 255).astype(np.uint8)
    known, tested = images[:400], images[400:]
    flat = images.reshape(450, -1) - images.reshape(450, -1).mean(axis=1, keepdims=True)
    correlation = np.corrcoef(flat)[400:, :400]
    np.testing.assert_array_equal(leakage.most_correlated(tested, known), correlation.argmax(axis=1))
