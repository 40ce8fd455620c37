"""No file from a cache or from somebody else is unpickled."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.data.grouping import find_groups
from eyegender.data.image_facts import image_facts
from eyegender.data.pixel_cache import open_pixel_store
from eyegender.data.synthetic import SyntheticReader
from eyegender.models.weights import read_state_dict
from eyegender.tracking.stored_config import parse_config
from eyegender.training.checkpoints import load_checkpoint
from eyegender.training.measurements import fastest
from tests.planted import forms
from tests.unit.features.test_store import entry, open_or_build

FORMS = ("pickle", "torch", "npy", "npz")


def test_the_planted_files_run_code(tmp_path: Path) -> None:
    """Otherwise the other tests would prove nothing."""
    for name, data in forms(tmp_path / "canary").items():
        (tmp_path / name).write_bytes(data)
    for load in (
        lambda: pickle.loads((tmp_path / "pickle").read_bytes()),
        lambda: torch.load(tmp_path / "torch", weights_only=False),
        lambda: np.load(tmp_path / "npy", allow_pickle=True),
        lambda: np.load(tmp_path / "npz", allow_pickle=True)["group"],
    ):
        load()
        (tmp_path / "canary").unlink()


@pytest.mark.parametrize("form", FORMS)
def test_planted_cache_files_are_not_unpickled(tmp_path: Path, form: str) -> None:
    cache = tmp_path / "cache"
    samples = SyntheticReader(40, size=32).read()
    image = tmp_path / "a.png"
    samples.open(0).save(image)

    def use() -> tuple[object, ...]:
        store = open_pixel_store(samples, 16, "gray", cache)
        groups = find_groups(samples, cache)
        activations = open_or_build(entry(cache / "activations-of-a-test"))
        fastest("a test", {"one": lambda: None}, cache)
        pixels = store.read(np.arange(len(store)))
        features = activations.read(np.arange(activations.images), 0)
        return pixels.tobytes(), groups.group.tobytes(), features.float().numpy().tobytes(), image_facts([image], cache)

    before = use()
    planted = 0
    for path in sorted(cache.rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            path.write_bytes(forms(tmp_path / "canary")[form])
            planted += 1
    assert planted >= 9
    assert use() == before
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
def test_planted_weights_are_refused(tmp_path: Path, form: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(forms(tmp_path / "canary")[form])
    with pytest.raises(UserError, match=rf"weights{suffix} (holds more|cannot be read)"):
        read_state_dict(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_planted_checkpoint_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(forms(tmp_path / "canary")[form])
    with pytest.raises(UserError, match=r"last.ckpt (holds more|is damaged)"):
        load_checkpoint(path)
    assert not (tmp_path / "canary").exists()


def test_a_planted_config_is_refused(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    assert (
        parse_config(f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{canary}]]")
        is None
    )
    assert parse_config(pickle.dumps({}, protocol=0).decode()) is None
    assert parse_config("[" * 20_000) is None
    assert not canary.exists()
