from __future__ import annotations

import torch

from eyegender.features.prefix import Views, training_views
from eyegender.models.augment import Augment

AUGMENT = Augment()
PIXELS = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_original_then_mirror_image_then_random_views() -> None:
    views = training_views(4, AUGMENT, seed=0)
    assert len(views) == 4
    assert torch.equal(views.make(PIXELS, 0, 0), PIXELS)
    assert torch.equal(views.make(PIXELS, 1, 0), PIXELS.flip(3))
    assert not torch.equal(views.make(PIXELS, 2, 0), views.make(PIXELS, 3, 0))


def test_without_augmentation_there_is_the_original_alone() -> None:
    assert training_views(4, None, 0) == training_views(1, AUGMENT, 5) == Views()


def test_without_mirroring_no_mirror_image() -> None:
    views = training_views(3, Augment(flip=0), 0)
    assert (views.mirrored, views.draws) == (False, 2)


def test_random_views_depend_only_on_seed_and_position() -> None:
    views = training_views(4, AUGMENT, seed=0)
    torch.manual_seed(1)
    first = views.make(PIXELS, 2, 64)
    torch.manual_seed(2)
    assert torch.equal(views.make(PIXELS, 2, 64), first)
    assert not torch.equal(views.make(PIXELS, 2, 128), first)
    assert not torch.equal(training_views(4, AUGMENT, seed=1).make(PIXELS, 2, 64), first)


def test_views_without_random_numbers_do_not_depend_on_the_seed() -> None:
    assert (
        training_views(2, AUGMENT, 0).description
        == training_views(2, Augment(shift=0.2), 1).description
        == "original mirrored"
    )
    assert training_views(3, AUGMENT, 0).description != training_views(3, AUGMENT, 1).description
    assert training_views(3, AUGMENT, 0).description != training_views(3, Augment(shift=0.2), 0).description
