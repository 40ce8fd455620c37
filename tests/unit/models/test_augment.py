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


def test_rotation_keeps_distances_and_turns_by_at_most_its_degrees() -> None:
    dot = torch.zeros(256, 1, 41, 41)
    dot[:, :, 20, 35] = 255  # 15 to the right of the middle
    turned = Augment(0, 0, 0, 0, rotate=30)(dot, gen())
    weight, places = turned.sum((1, 2, 3)), torch.arange(41) - 20.0
    right, down = (turned.sum((1, 2)) * places).sum(1) / weight, (turned.sum((1, 3)) * places).sum(1) / weight
    torch.testing.assert_close(torch.hypot(right, down), torch.full((256,), 15.0), atol=0.3, rtol=0)
    degrees = torch.rad2deg(torch.atan2(down, right))
    assert degrees.abs().max() < 31
    assert degrees.max() > 25
    assert degrees.min() < -25


def test_erasing_grays_one_square_of_some_images() -> None:
    white = torch.full((400, 3, 50, 50), 255, dtype=torch.uint8)
    erased = Augment(0, 0, 0, 0, erase=0.25)(white, gen())
    gray = erased == 127.5
    assert torch.equal(gray | (erased == 255), torch.ones_like(gray))
    assert torch.equal(gray[:, 0], gray[:, 2])
    chosen = gray.flatten(1).any(1)
    assert 60 < chosen.sum() < 140
    rows, columns = (gray[chosen, 0].any(axis).sum(1) for axis in (2, 1))
    assert torch.equal(gray[chosen, 0].sum((1, 2)), rows * columns)  # one rectangle
    assert (rows - columns).abs().max() <= 1
    assert rows.min() >= 9
    assert rows.max() <= 21


def test_options_that_are_off_draw_no_random_numbers() -> None:
    assert torch.equal(Augment()(eyes(), gen()), Augment(rotate=0, erase=0)(eyes(), gen()))
    one, other = gen(), gen()
    Augment()(eyes(), one)
    Augment(rotate=5)(eyes(), other)
    assert not torch.equal(one.get_state(), other.get_state())
