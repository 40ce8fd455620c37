"""Frozen weights beside the checkpoints: joined when they are read, shared by trials, never those of another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.training import frozen_weights
from eyegender.training.checkpoints import SafeCheckpointIO, latest_checkpoint, load_checkpoint
from eyegender.training.frozen_weights import FROZEN_FILE

FROZEN = ("a.weight", "a.running_mean")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_weights, "_last", None)


def checkpoint(head: float = 1.0, scale: float = 1.0) -> dict[str, Any]:
    state = {"a.weight": scale * torch.randn(300, 40, generator=torch.Generator().manual_seed(0)),
             "a.running_mean": torch.zeros(40), "head": torch.full((3,), head)}  # fmt: skip
    return {"state_dict": state, "current_model_state": {**state, "head": torch.zeros(3)}, "epoch": 1}


def folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name / "checkpoints").mkdir(parents=True, exist_ok=True)
    return tmp_path / name / "checkpoints"


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key in ("state_dict", "current_model_state"):
        assert one[key].keys() == other[key].keys()
        assert all(torch.equal(one[key][name], other[key][name]) for name in one[key])


@pytest.mark.parametrize("warm", [True, False], ids=["same process", "another process"])
def test_a_checkpoint_is_read_as_it_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, warm: bool) -> None:
    place, io = folder(tmp_path, "0"), SafeCheckpointIO(FROZEN)
    for head in (1.0, 2.0):
        io.save_checkpoint(checkpoint(head), place / "last.ckpt")
    assert (place / "last.ckpt").stat().st_size < 10_000 < (place / FROZEN_FILE).stat().st_size
    if not warm:
        monkeypatch.setattr(frozen_weights, "_last", None)
    assert_equal(load_checkpoint(place / "last.ckpt"), checkpoint(2.0))
    SafeCheckpointIO().save_checkpoint(load_checkpoint(place / "last.ckpt"), tmp_path / "alone.ckpt")
    assert_equal(load_checkpoint(tmp_path / "alone.ckpt"), checkpoint(2.0))


def test_trials_share_the_file_while_their_weights_are_equal(tmp_path: Path) -> None:
    places = [folder(tmp_path, name) for name in "0123"]
    for place, scale in zip(places, (1.0, 1.0, 3.0, 1.0), strict=True):
        SafeCheckpointIO(FROZEN).save_checkpoint(checkpoint(scale=scale), place / "best.ckpt")
    inodes = [(place / FROZEN_FILE).stat().st_ino for place in places]
    assert inodes[0] == inodes[1]
    assert len(set(inodes)) == 3
    for place, scale in zip(places, (1.0, 1.0, 3.0, 1.0), strict=True):
        assert_equal(load_checkpoint(place / "best.ckpt"), checkpoint(scale=scale))
    # Where one trial is removed, the other keeps its weights.
    (places[0] / FROZEN_FILE).unlink()
    assert_equal(load_checkpoint(places[1] / "best.ckpt"), checkpoint())


def test_without_hard_links_each_trial_has_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    places = [folder(tmp_path, name) for name in "01"]
    for place in places:
        SafeCheckpointIO(FROZEN).save_checkpoint(checkpoint(), place / "best.ckpt")
    assert len({(place / FROZEN_FILE).stat().st_ino for place in places}) == 2
    assert_equal(load_checkpoint(places[1] / "best.ckpt"), checkpoint())


def test_missing_foreign_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    place, other = folder(tmp_path, "0"), folder(tmp_path, "1")
    SafeCheckpointIO(FROZEN).save_checkpoint(checkpoint(), place / "last.ckpt")
    SafeCheckpointIO(FROZEN).save_checkpoint(checkpoint(scale=2.0), other / "last.ckpt")
    file = place / FROZEN_FILE
    whole = file.read_bytes()
    file.unlink()
    with pytest.raises(UserError, match=f"need {FROZEN_FILE}; copy it there from the run's folder"):
        load_checkpoint(place / "last.ckpt")
    assert latest_checkpoint(place.parent) is None
    file.write_bytes((other / FROZEN_FILE).read_bytes())
    with pytest.raises(UserError, match=r"frozen\.pt holds the weights of another run"):
        load_checkpoint(place / "last.ckpt")
    torch.save({"state_dict": {"a.weight": "text"}}, file)
    with pytest.raises(UserError, match=r"frozen\.pt holds no weights"):
        load_checkpoint(place / "last.ckpt")
    file.write_bytes(whole[:2000] + bytes(100) + whole[2100:])
    with pytest.raises(UserError, match=r"frozen\.pt is damaged"):
        load_checkpoint(place / "last.ckpt")
    file.write_bytes(whole)
    assert_equal(load_checkpoint(place / "last.ckpt"), checkpoint())
