import shutil
from pathlib import Path

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.optuna_study._job import Composer

from .sweeping import HERE


@pytest.mark.parametrize(
    ("fixed", "suggested"),
    [
        ((), ("x=1.5", "y=-2")),
        (("mode=slow",), ("x=0.1", "shape=square", "y=2")),
        (("+extra=1",), ("shape.depth=7", "++more=a", "x=1e-05")),
        (("shape=square",), ("shape.corners=9", "mode='a b'", "+list=[1,2]")),
        ((), ("mode=null", "steps=3")),
        (("hydra.job.name=other",), ("x=1",)),
        (("~seconds",), ("x=${y}",)),
        ((), ("+new={a: 1, b: [x, y]}", "new.a=2", "~steps")),
        (("shape=square",), ("++shape.corners=9", "shape={corners: 3}", "hydra.job.name=suggested")),
    ],
)
def test_composer_gives_what_load_sweep_config_gives(fixed, suggested, tmp_path):
    hydra, master = composed(tmp_path)
    composer = Composer(hydra.config_loader, master)
    for _ in range(2):  # the second time from the stored base
        ours = OmegaConf.to_container(composer.compose(fixed, suggested))
        theirs = OmegaConf.to_container(hydra.config_loader.load_sweep_config(master, [*fixed, *suggested]))
        assert ours == theirs


def test_hydra_composes_once_for_trials_that_choose_the_same_groups(tmp_path, monkeypatch):
    hydra, master = composed(tmp_path)
    composer, asked = Composer(hydra.config_loader, master), []
    load = hydra.config_loader.load_sweep_config
    monkeypatch.setattr(hydra.config_loader, "load_sweep_config", lambda *args: asked.append(args[1]) or load(*args))
    for number in range(4):
        config = composer.compose(("mode=slow",), (f"x={number}", f"+added={number}", "shape=square"))
        config.x = "spoilt"  # a trial's own copy
        assert (config.added, config.mode) == (number, "slow")
    assert composer.compose(("mode=slow",), ("x=1", "shape=square")).x == 1
    assert asked == [["mode=slow", "shape=square"]]
    composer.compose(("mode=slow",), ("shape=round",))
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("suggested", "words"), [("nowhere=1", "Could not override 'nowhere'"), ("+x=1", "already at 'x'")]
)
def test_an_override_that_does_not_fit_raises_hydras_own_error(suggested, words, tmp_path):
    hydra, master = composed(tmp_path)
    with pytest.raises(ConfigCompositionException, match=words):
        Composer(hydra.config_loader, master).compose((), (suggested,))


def composed(folder: Path) -> tuple[Hydra, DictConfig]:
    shutil.copytree(HERE / "conf", folder / "conf")
    setup_globals()
    hydra = Hydra.create_main_hydra2("toy", create_config_search_path(str(folder / "conf")))
    return hydra, hydra.compose_config("config", ["hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
