import shutil

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import OmegaConf

from hydra_plugins.optuna_study._compose import Composer

from .sweeping import HERE


@pytest.mark.parametrize(
    ("fixed", "drawn"),
    [
        ((), ("x=1.5", "y=-2")),
        (("mode=slow",), ("x=0.1", "shape=square", "y=2")),
        (("+extra=1",), ("shape.depth=7", "++more=a", "x=1e-05")),
        (("shape=square",), ("shape.corners=9", "mode='a b'", "+list=[1,2]")),
        ((), ("mode=null", "steps=3")),
        (("hydra.job.name=other",), ("x=1",)),
        (("~seconds",), ("x=${y}",)),
    ],
)
def test_the_short_way_composes_what_hydra_composes(fixed, drawn, tmp_path):
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    setup_globals()
    hydra = Hydra.create_main_hydra2("toy", create_config_search_path(str(tmp_path / "conf")))
    master = hydra.compose_config("config", ["hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    composer = Composer(hydra.config_loader, master)
    for _ in range(2):  # the second time from the stored base
        short = OmegaConf.to_container(composer.compose(fixed, drawn))
        long = OmegaConf.to_container(hydra.config_loader.load_sweep_config(master, [*fixed, *drawn]))
        assert short == long
