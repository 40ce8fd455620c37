from __future__ import annotations

import torch

from eyegender.models.augment import Augment


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def eyes() -> torch.Tensor:
    return torch.randint(0, 256, (8, 1, 16, 16), generator=gen(), dtype=torch.uint8)


def test_all_off_changes_nothing() -> None:
    torch.testing.assert_close(Augment(0, 0, 0, 0)(eyes(), gen()), eyes().float())


def test_flip_alone_mirrors_exactly() -> None:
    torch.testing.assert_close(Augment(1, 0, 0, 0)(eyes(), gen()), eyes().float().flip(3))


def test_a_function_of_the_generator_alone() -> None:
    one, two = Augment()(eyes(), gen(1)), Augment()(eyes(), gen(1))
    assert torch.equal(one, two)
    assert not torch.equal(one, Augment()(eyes(), gen(2)))


def test_stays_in_range() -> None:
    out = Augment(brightness=1.0)(eyes(), gen())
    assert out.min() >= 0
    assert out.max() <= 255


def test_shift_moves_by_at_most_its_fraction() -> None:
    dot = torch.zeros(64, 1, 21, 21)
    dot[:, :, 10, 10] = 255
    moved = Augment(0, 0.2, 0, 0)(dot, gen())
    weight = moved.sum((1, 2, 3))
    column = (moved.sum((1, 2)) * torch.arange(21)).sum(1) / weight
    assert (column - 10).abs().max() <= 0.2 * 21 + 1e-3
    assert (column - 10).abs().max() > 0.1 * 21
