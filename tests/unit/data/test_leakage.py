import numpy as np

from eyegender.data.audit import count_pairs_across, nearest_neighbor_accuracy
from eyegender.data.splits import Split


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
