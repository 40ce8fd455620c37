"""A data module uses what the one before it found, if samples and options are the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eyegender.data import last_setup
from eyegender.data.data_module import EyesDataModule
from eyegender.data.readers import Samples
from eyegender.data.synthetic import SyntheticReader


class OneReader:
    """Returns the same samples each time, as the folder reader does while no file changes."""

    def __init__(self) -> None:
        self.samples = SyntheticReader(n=80).read()

    def read(self) -> Samples:
        return self.samples


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneReader:
    monkeypatch.setattr(last_setup, "_last", None)
    monkeypatch.setenv("EYEGENDER_CACHE", str(tmp_path / "cache"))
    return OneReader()


def module(reader: Any, **options: Any) -> EyesDataModule:
    data = EyesDataModule(reader, size=16, **options)
    data.setup()
    return data


def test_the_second_module_is_the_same_and_reads_nothing(reader: OneReader, monkeypatch: pytest.MonkeyPatch) -> None:
    first = module(reader)
    monkeypatch.setattr(EyesDataModule, "_read", None)
    second = module(reader, batch_size=7)
    assert second.store is first.store
    assert second.batch_size == 7
    assert second.facts() == first.facts()
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(second.split.index(split), first.split.index(split))
    np.testing.assert_array_equal(second.pixels(np.arange(5)), first.pixels(np.arange(5)))


@pytest.mark.parametrize(
    "options",
    [{"split_seed": 1}, {"seed": 1}, {"color": "rgb"}, {"subset": {"female": 30, "male": 30}}, {"split_by": "random"},
     {"val_fraction": 0.2}],
)  # fmt: skip
def test_other_options_are_another_setup(reader: OneReader, options: dict[str, Any]) -> None:
    first, other = module(reader), module(reader, **options)
    assert other.facts() != first.facts()
    last_setup._last = None
    assert module(reader, **options).facts() == other.facts()


def test_other_samples_and_a_removed_store_are_read_again(reader: OneReader) -> None:
    first = module(reader)
    assert module(OneReader()).split is not first.split
    first = module(reader)
    shutil.rmtree(first.store.folder)
    again = module(reader)
    assert again.store is not first.store
    assert again.facts() == first.facts()
