from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eyegender.data import loader as loader_module
from eyegender.data.loader import Batch, BatchLoader, ImageLoader
from eyegender.data.pixel_cache import PixelStore, open_pixel_store
from eyegender.data.readers import Samples

N = 101


@pytest.fixture
def store(cache: Path) -> PixelStore:
    samples = Samples(
        source="made up",
        names=tuple(str(i) for i in range(N)),
        labels=np.arange(N, dtype=np.uint8) % 2,
        digests=tuple(f"{i:064x}" for i in range(N)),
        open=lambda i: Image.new("L", (8, 8), i),
    )
    return open_pixel_store(samples, 8, "gray")


def loader(store: PixelStore, batch_size: int = 16, *, shuffle: bool = True, **options: int) -> ImageLoader:
    rows = np.arange(N)
    return ImageLoader(store, rows, (rows % 2).astype(np.uint8), rows + 1000, batch_size, shuffle=shuffle, **options)


def order(batches: list[Batch]) -> list[int]:
    return [int(i) for batch in batches for i in batch.indices]


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_image_occurs_once_with_its_label(store: PixelStore, shuffle: bool) -> None:
    batches = list(loader(store, shuffle=shuffle))
    assert sorted(order(batches)) == list(range(1000, 1000 + N))
    for batch in batches:
        assert batch.pixels.dtype == torch.uint8
        assert torch.equal(batch.pixels[:, 0, 0, 0].long(), batch.indices - 1000)
        assert torch.equal(batch.labels, (batch.indices - 1000) % 2)
    sizes = [len(batch.indices) for batch in batches]
    assert max(sizes) <= 16
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == len(loader(store))


def test_order_is_a_function_of_seed_and_epoch(store: PixelStore) -> None:
    def run(seed: int, epoch: int) -> list[int]:
        batches = loader(store, seed=seed)
        batches.set_epoch(epoch)
        return order(list(batches))

    assert run(1, 2) == run(1, 2)
    assert len({tuple(run(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("position", range(8))
def test_resuming_continues_with_the_next_batch(store: PixelStore, position: int) -> None:
    whole = loader(store)
    whole.set_epoch(3)
    expected = order(list(whole))

    interrupted = loader(store)
    interrupted.set_epoch(3)
    iterator = iter(interrupted)
    before = [next(iterator) for _ in range(min(position, len(interrupted)))]
    state = interrupted.state_dict()

    resumed = loader(store)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert order(before + list(resumed)) == expected
    resumed.set_epoch(4)
    assert sorted(order(list(resumed))) == sorted(expected)


def test_a_checkpoint_before_the_first_batch_of_an_epoch_starts_it(store: PixelStore) -> None:
    batches = loader(store)
    list(batches)
    batches.set_epoch(1)
    assert batches.state_dict()["batches"] == 0


def test_the_epoch_starts_again_if_the_batches_differ(store: PixelStore, caplog: pytest.LogCaptureFixture) -> None:
    interrupted = loader(store)
    next(iter(interrupted))
    resumed = loader(store, 32)
    resumed.load_state_dict(interrupted.state_dict())
    assert len(order(list(resumed))) == N
    assert "the epoch starts again" in caplog.text


@pytest.mark.parametrize("world", [2, 3, 7, 101])
@pytest.mark.parametrize("batch_size", [1, 16, 50])
def test_all_ranks_have_the_same_number_of_batches(store: PixelStore, world: int, batch_size: int) -> None:
    for shuffle in (True, False):
        ranks = [list(loader(store, batch_size, shuffle=shuffle, rank=r, world_size=world)) for r in range(world)]
        assert len({len(batches) for batches in ranks}) == 1
        assert all(len(batch.indices) for batches in ranks for batch in batches)
        seen = sorted(i for batches in ranks for i in order(batches))
        if shuffle:
            assert set(seen) == set(range(1000, 1000 + N))
            assert len(seen) < N + world
            assert len({len(order(batches)) for batches in ranks}) == 1
        else:
            assert seen == list(range(1000, 1000 + N))


class Positions(BatchLoader):
    """Batches without pixels, so that no GPU is needed."""

    _prefetches = False

    def _load(self, positions: np.ndarray) -> Batch:
        where = torch.from_numpy(positions)
        return Batch(torch.zeros(0), torch.from_numpy(self.labels)[where], torch.from_numpy(self.index)[where])


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 16, 50, 200])
def test_a_gpu_trains_with_batches_of_one_size(world: int, batch_size: int) -> None:
    rows, gpu = np.arange(N), torch.device("cuda")
    labels = (rows % 2).astype(np.uint8)
    seen: set[int] = set()
    for epoch in range(8):
        sizes = set()
        for rank in range(world):
            options = {"rank": rank, "world_size": world, "gpu": gpu}
            batches = Positions(rows, labels, rows, batch_size, shuffle=True, **options)
            batches.set_epoch(epoch)
            loaded = list(batches)
            assert len(loaded) == len(batches)
            assert len(order(loaded)) > -(-N // world) - len(batches)
            sizes |= {len(batch.indices) for batch in loaded}
            seen |= set(order(loaded))
        assert len(sizes) == 1
        assert max(sizes) <= batch_size
    assert seen == set(range(N))
    evaluated = list(Positions(rows, labels, rows, batch_size, shuffle=False, gpu=gpu))
    assert order(evaluated) == list(range(N))


def test_an_epoch_can_follow_an_unfinished_one(store: PixelStore) -> None:
    batches = loader(store)
    next(iter(batches))
    assert len(order(list(batches))) == N


def test_preloaded_images_are_the_same(store: PixelStore) -> None:
    plain, preloaded = loader(store), loader(store)
    assert preloaded.preload("cpu")
    for one, two in zip(plain, preloaded, strict=True):
        assert torch.equal(one.pixels, two.pixels)
        assert torch.equal(one.indices, two.indices)


def test_images_that_do_not_fit_into_free_memory_are_not_preloaded(
    store: PixelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, fits in ((N * 64 / 0.4 - 1, False), (N * 64 / 0.4 + 1, True)):
        monkeypatch.setattr(loader_module, "free_bytes", lambda _, free=free: free)
        assert loader(store).preload("cpu") == fits


def test_images_are_preloaded_when_the_second_epoch_starts(store: PixelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(ImageLoader, "preload", lambda _, device: asked.append(device))
    batches = loader(store)
    batches.gpu = "cuda:1"
    for begun in range(4):
        iter(batches)
        assert len(asked) == (begun > 0)
    assert asked == ["cuda:1"]


@pytest.mark.gpu
def test_pinned_and_then_preloaded_on_a_gpu(store: PixelStore) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    plain = loader(store)
    batches = loader(store)
    batches.gpu = torch.device("cuda", 0)
    for epoch in range(2):
        for batch, expected in zip(batches, plain, strict=True):
            for name in ("pixels", "labels", "indices"):
                tensor = getattr(batch, name)
                assert tensor.is_cuda if epoch else tensor.is_pinned()
                assert torch.equal(tensor.cpu(), getattr(expected, name))


def test_a_reading_error_reaches_the_loop(store: PixelStore) -> None:
    batches = loader(store)
    batches.rows = batches.rows + 1
    with pytest.raises(IndexError, match=r"row must be in 0..100, got 101"):
        list(batches)


@pytest.mark.parametrize(("batch_size", "rank", "world"), [(0, 0, 1), (4, 2, 2), (4, 0, 200)])
def test_impossible_loaders_are_refused(store: PixelStore, batch_size: int, rank: int, world: int) -> None:
    with pytest.raises(ValueError, match="must"):
        loader(store, batch_size, rank=rank, world_size=world)
