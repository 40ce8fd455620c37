"""Runs in one process, one after the other: what each opened is closed again."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from eyegender.models.network import Network
from eyegender.training.run import train
from tests.composing import tiny_config

pytestmark = pytest.mark.integration

RUNS, WARM_UP = 5, 2


def opened_files() -> list[str]:
    """What this process holds open, but for a few connections to the store: a pool keeps up to five."""
    links = list(Path("/proc/self/fd").iterdir())
    return [str(link.readlink()) for link in links if link.is_symlink()]


def test_handles_threads_and_networks_do_not_grow_from_run_to_run(tmp_path: Path) -> None:
    handles, threads, networks = [], [], []
    for number in range(RUNS):
        train(
            tiny_config("data.n=40", "trainer.max_epochs=1", "model.finetune_depth=1", f"seed={number}"),
            tmp_path / str(number),
        )
        gc.collect()
        handles.append(sum("mlflow.db" not in opened for opened in opened_files()))
        threads.append(threading.active_count())
        networks.append(sum(type(held) is Network for held in gc.get_objects()))
    assert handles[-1] <= handles[WARM_UP - 1], handles
    assert threads[-1] <= threads[WARM_UP - 1], threads
    assert networks[-1] <= networks[WARM_UP - 1], networks
