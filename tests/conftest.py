"""Every test has its own cache, working directory and logging; none sees the machine's tracking settings."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from tests.composing import remember_config_files

# The tests' modules import torch, MLflow and Lightning, in which there is no garbage; neither do later collections look
# at them.
gc.disable()

remember_config_files()

EYES, CELEBA, WEIGHTS = "EYEGENDER_TEST_EYES", "EYEGENDER_TEST_CELEBA", "EYEGENDER_TEST_WEIGHTS"


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, session_cache: Path) -> None:
    monkeypatch.setenv("EYEGENDER_CACHE", str(session_cache))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")  # so that it is restored, even if the test sets it and it was not set before
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    HydraConfig.instance().cfg = None  # which a command in an earlier test may have left


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Hydra sets up logging for a whole process, with handlers for streams that pytest closes after a test."""

    def loggers() -> list[logging.Logger]:
        known = logging.root.manager.loggerDict.values()
        return [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]

    before = {logger: (logger.level, logger.propagate, logger.disabled, logger.handlers[:]) for logger in loggers()}
    disabled = logging.root.manager.disable
    yield
    logging.disable(disabled)
    # What a library sets up when it is first imported, in the middle of a test, stays.
    for logger, (level, propagate, off, handlers) in before.items():
        if logger.level != level:  # setting a level empties the cache of every logger
            logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, off
        for handler in logger.handlers[:]:
            if handler not in handlers:
                logger.removeHandler(handler)
                handler.close()
        for handler in handlers:
            if handler not in logger.handlers:
                logger.addHandler(handler)


def _given(name: str) -> Path:
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} does not name real pictures or weights")
    return Path(value)


@pytest.fixture
def real_eyes() -> Path:
    return _given(EYES)


@pytest.fixture
def real_celeba() -> Path:
    return _given(CELEBA)


@pytest.fixture
def real_weights() -> Path:
    return _given(WEIGHTS)
