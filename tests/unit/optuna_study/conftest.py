from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

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
