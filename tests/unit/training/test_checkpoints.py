from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.training.checkpoints import SafeCheckpointIO, latest_checkpoint, load_checkpoint

GOOD = {"state_dict": {"w": torch.ones(1000)}, "epoch": 3}


class Planted:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (Path.touch, (self.path,))


def saved(folder: Path, name: str = "last.ckpt") -> Path:
    SafeCheckpointIO().save_checkpoint(GOOD, folder / name)
    return folder / name


def test_round_trip(tmp_path: Path) -> None:
    assert load_checkpoint(saved(tmp_path))["epoch"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]  # no temporary file


def test_the_previous_one_survives_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)

    def full(_checkpoint: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        UserError, match=r"cannot write checkpoint .*last.ckpt of 0 bytes .*No space left.*resume with ckpt_path="
    ):
        SafeCheckpointIO().save_checkpoint({}, path)
    assert load_checkpoint(path)["epoch"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("keep", [0, 10, 1000, -10])
def test_the_error_for_a_truncated_checkpoint_names_an_intact_one(tmp_path: Path, keep: int) -> None:
    saved(tmp_path, "best.ckpt")
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"last.ckpt is damaged.*resume from .*best.ckpt"):
        load_checkpoint(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    saved(tmp_path, "best.ckpt")
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(100).numpy().tobytes()) + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last.ckpt is damaged \(\S+ changed on disk\); resume from .*best.ckpt"):
        load_checkpoint(path)
    (tmp_path / "best.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="start the run again"):  # a damaged sibling is not offered
        load_checkpoint(path)


def test_a_trial_resumes_from_the_best_checkpoint_if_the_last_is_damaged(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    folder = tmp_path / "checkpoints"
    last, best = saved(folder), saved(folder, "best.ckpt")
    assert latest_checkpoint(tmp_path) == last
    last.write_bytes(b"x")
    assert latest_checkpoint(tmp_path) == best
    best.write_bytes(b"x")
    assert latest_checkpoint(tmp_path) is None


def test_a_planted_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "x": Planted(tmp_path / "planted")}, tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Planted(tmp_path / "planted")))
    for name in ("a.ckpt", "b.ckpt"):
        with pytest.raises(UserError, match=name):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "planted").exists()


def test_another_file_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": 1}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of a training run"):
        load_checkpoint(tmp_path / "x.ckpt")
