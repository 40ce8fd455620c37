"""Composes the real configs in tests, shrunk to seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir

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


def compose_config(*overrides: str, name: str = "train") -> DictConfig:
    register_sweeps()
    with initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def tiny_config(*overrides: str) -> TrainConfig:
    return parse(compose_config(*TINY, *overrides))
