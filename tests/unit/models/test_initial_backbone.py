"""A backbone that was built before is copied: the same weights, and the same random numbers afterwards."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from eyegender.models import initial_backbone
from eyegender.models.backbone import Backbone
from eyegender.models.initial_backbone import build_backbone
from eyegender.models.mobilenet_v2 import MobileNetV2


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial_backbone, "_built", OrderedDict())


def built(choice: str | None, seed: int = 0) -> tuple[Backbone, torch.Tensor]:
    """A backbone, and what is drawn after it."""
    torch.manual_seed(seed)
    backbone, _ = build_backbone(MobileNetV2, choice)
    return backbone, torch.randn(4)


def equal(one: Backbone, other: Backbone) -> bool:
    mine, others = one.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[name], others[name]) for name in mine)


def weights(path: Path, scale: float) -> str:
    state = MobileNetV2.torchvision_network().state_dict()
    torch.save({name: scale * tensor for name, tensor in state.items()}, path)
    return str(path)


@pytest.mark.parametrize("from_file", [True, False])
def test_a_copy_equals_a_new_one_and_training_does_not_change_it(tmp_path: Path, *, from_file: bool) -> None:
    choice = weights(tmp_path / "w.pth", 1.0) if from_file else None
    new, drawn = built(choice)
    original = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.add_(1)
    copied, drawn_again = built(choice)
    assert torch.equal(drawn, drawn_again)
    assert all(torch.equal(tensor, original[name]) for name, tensor in copied.state_dict().items())
    initial_backbone._built.clear()
    assert equal(copied, built(choice)[0])


def test_another_seed_or_file_is_another_backbone(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    first, drawn = built(None)
    second, others = built(None, seed=1)
    assert not equal(first, second)
    assert not torch.equal(drawn, others)
    before, _ = built(weights(path, 1.0))
    stamp = path.stat().st_mtime
    weights(path, 2.0)
    os.utime(path, (stamp + 1, stamp + 1))
    after, _ = built(str(path))
    assert not equal(before, after)
    assert len(initial_backbone._built) == 2
