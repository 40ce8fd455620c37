"""Composes the real configs in tests, shrunk to seconds."""

from __future__ import annotations

import os
import pickle
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from eyegender.core.config_files import config_folder, register_sweeps
from eyegender.core.schema import TrainConfig, parse

if TYPE_CHECKING:
    from omegaconf import DictConfig

# 32 pixels: every stage still has a pixel.
SMALL = (
    "data.size=32",
    "model.weights=null",
    "trainer.max_epochs=2",
    "trainer.batch_size=16",
    "trainer=cpu",
    "trainer.progress=none",
)
# 60 pictures: three steps an epoch.
TINY = ("data.n=60", *SMALL)


def remember_config_files() -> None:
    """Parse each file of `conf/`, `sweeps/` and Hydra once in this process: they do not change while the tests run.

    Parsing is a third of a composition, and hundreds of tests compose. Files elsewhere are read each time.
    """
    load = OmegaConf.load
    folders = (config_folder("conf"), config_folder("sweeps"), Path(hydra.__file__).with_name("conf"))
    fixed = tuple(f"{folder.resolve()}{os.sep}" for folder in folders)

    @cache
    def parsed(path: str) -> bytes:
        return pickle.dumps(load(path))

    def load_or_recall(file: Any) -> Any:
        path = str(Path(file if isinstance(file, (str, Path)) else file.name).absolute())
        return pickle.loads(parsed(path)) if path.startswith(fixed) else load(file)

    OmegaConf.load = load_or_recall  # type: ignore[method-assign]


def compose_config(*overrides: str, name: str = "train") -> DictConfig:
    """The composed config; the same overrides are composed once, and each caller gets a copy of its own."""
    config: DictConfig = pickle.loads(_composed(overrides, name))
    return config


@cache
def _composed(overrides: tuple[str, ...], name: str) -> bytes:
    register_sweeps()
    with initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"):
        return pickle.dumps(compose(name, overrides=list(overrides)))


def tiny_config(*overrides: str) -> TrainConfig:
    return parse(compose_config(*TINY, *overrides))
