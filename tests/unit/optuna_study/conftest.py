from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from hydra_plugins.optuna_study import study_status

from .sweeping import HERE, multirun


@pytest.fixture(autouse=True)
def _hydra_cleared() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`sweep("mode=ok", ...)` sweeps the toy in this process."""
    monkeypatch.syspath_prepend(str(HERE))
    import toy

    return lambda *overrides: multirun(toy.main.__wrapped__, *overrides)


@pytest.fixture
def sweep_task() -> Callable[..., Any]:
    """`sweep_task(task, "mode=ok", ...)` sweeps a function in this process; the study's status, None in memory."""

    def sweep(task: Callable[..., Any], *overrides: str) -> Any:
        multirun(task, *overrides)
        url = next(
            (o.partition("=")[2] for o in overrides if o.startswith("hydra.sweeper.storage=")), "sqlite:///study.db"
        )
        return None if url == "null" else study_status(url, "toy")

    return sweep
