"""A call from Python leaves the process as it was: Hydra, logging, signals, environment, random numbers, folder."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
# The levels of libraries that a command silences, as they set them when they are imported.
_LEVELS = {"optuna": logging.INFO, "mlflow": logging.INFO, "pytorch_lightning": logging.INFO,
           "lightning_fabric": logging.INFO, "alembic": logging.WARNING, "urllib3": logging.NOTSET}  # fmt: skip
# Hydra, logging and the environment belong to the whole process, so one call at a time; a call may contain another one.
_one_at_a_time = threading.RLock()


@contextmanager
def isolated() -> Iterator[None]:
    """Restore at the end of the block what Hydra and the commands change in a process."""
    with ExitStack() as stack:
        stack.enter_context(_one_at_a_time)
        for restored in (_hydra, _logging, _signals, _environment, _random_numbers, _command_line, _collector):
            stack.enter_context(restored())
        stack.enter_context(warnings.catch_warnings())
        # tqdm, which others import, wants widgets in a notebook; nothing here shows its bars.
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield


@contextmanager
def _hydra() -> Iterator[None]:
    """The process may be a Hydra application itself, which this call must not disturb."""
    Plugins.instance()  # finds the plugins once per process; their configs stay registered
    hydra, store, config, job = GlobalHydra.instance(), ConfigStore.instance(), HydraConfig.instance(), JobRuntime()
    former: tuple[Any, ...] = (hydra.hydra, store.repo, config.cfg, job.conf, version.getbase())
    store.repo = {**store.repo}
    for group, entries in store.repo.items():
        store.repo[group] = {**entries} if isinstance(entries, dict) else entries
    job.conf = job.conf.copy()
    hydra.clear()
    config.cfg = None
    try:
        yield
    finally:
        # Hydra's own context managers put another instance into its place.
        GlobalHydra.instance().hydra, store.repo, config.cfg, job.conf, base = former
        version.VersionBase.instance().version_base = base


@contextmanager
def _logging() -> Iterator[None]:
    """Hydra replaces the handlers of the root logger, and Python closes all handlers when it does."""
    known = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(one for one in known if isinstance(one, logging.Logger))]
    former = [(one, one.level, one.propagate, one.disabled, one.handlers[:]) for one in loggers]
    disabled, raises = logging.root.manager.disable, logging.raiseExceptions
    everything: list[Any] = logging._handlerList  # type: ignore[attr-defined]  # what is not in it is not closed
    kept = everything[:]
    everything.clear()
    try:
        yield
    finally:
        for logger, level, propagate, off, handlers in former:
            for handler in logger.handlers[:]:
                if handler not in handlers:
                    logger.removeHandler(handler)
                    handler.close()
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, off
        for name in _LEVELS.keys() - {logger.name for logger in loggers}:  # imported during the call
            if isinstance(logging.root.manager.loggerDict.get(name), logging.Logger):
                logging.getLogger(name).setLevel(_LEVELS[name])
        everything[:] = [*kept, *everything]
        logging.disable(disabled)
        logging.raiseExceptions = raises


@contextmanager
def _signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    former = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)


@contextmanager
def _environment() -> Iterator[None]:
    former, folder = dict(os.environ), Path.cwd()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(former)
        os.chdir(folder)


@contextmanager
def _random_numbers() -> Iterator[None]:
    """A run seeds all generators; those of a library that the process has not imported yet have no state to lose."""
    python = random.getstate()
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    numbers = None if numpy is None else numpy.random.get_state()
    generator, threads = (None, 0) if torch is None else (torch.get_rng_state(), torch.get_num_threads())
    gpus = [] if torch is None or not torch.cuda.is_initialized() else torch.cuda.get_rng_state_all()
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(numbers)
        if torch is not None:
            torch.set_rng_state(generator)
            torch.set_num_threads(threads)
            if gpus:
                torch.cuda.set_rng_state_all(gpus)


@contextmanager
def _command_line() -> Iterator[None]:
    module = sys.modules["__main__"]
    argv, spec, hook = sys.argv, getattr(module, "__spec__", None), sys.excepthook
    try:
        yield
    finally:
        sys.argv, sys.excepthook = argv, hook
        module.__spec__ = spec


@contextmanager
def _collector() -> Iterator[None]:
    """A command takes what its imports make out of garbage collection; here, that would include the user's objects."""
    frozen = gc.get_freeze_count()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()


def pretend_command(name: str, arguments: list[str]) -> None:
    """Let the processes that this call starts repeat a command instead of the user's script or notebook.

    Such are the ranks of `trainer=ddp`, workers of a sweep and those of a data loader. A script needs no
    `if __name__ == "__main__"` for them.

    Args:
        name: module that `python -m` runs.
        arguments: its command line.
    """
    sys.argv = [name, *arguments]
    sys.modules["__main__"].__spec__ = ModuleSpec(name, None)
