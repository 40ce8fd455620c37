"""What a call from Python leaves behind, and how it fails."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir, version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import eyegender
from eyegender.api.isolation import isolated, pretend_command
from tests import processes

WRONG = (
    ["model.lrr=1"],
    ["model=resnet19"],
    ["trainer.max_epochs=0"],
    ["monitor=val/loss", "mode=max"],
    ["data=folder", "data.root=nowhere"],
    ["+sweeps=finetune"],
    ["hydra.job_logging.formatters=2"],
    ["model.lr=["],
    ["ckpt_path=nowhere.ckpt"],
    ["output=/dev/null"],
)


@pytest.mark.parametrize("overrides", WRONG, ids=" ".join)
def test_a_mistake_is_one_exception_with_the_line_of_the_command(
    overrides: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(eyegender.UserError) as caught:
        eyegender.train(overrides)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    done = processes.run("eyegender.train", *overrides)
    assert done.stderr.splitlines()[0] == f"eyegender: {caught.value}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["monitor=val/loss", "hydra.sweeper.direction=maximize", "model.lr=choice(1,2)"],
            "direction must be minimize",
        ),
        (["model.lr=0.1"], "nothing to sweep: set hydra.sweeper.params or give a range"),
        (["hydra/sweeper=basic", "model.lr=1,2"], "hydra/sweeper must be optuna_study in a sweep from Python"),
        (["sweeps=finetune", "hydra.sweeper.plan=true"], "hydra.sweeper.plan=true"),
        (["sweeps=finetune", "hydra.sweeper.storage=null"], "needs hydra.sweeper.storage and study_name"),
        (["sweeps=finetunes"], "Could not find 'sweeps/finetunes'; known: .*finetune"),
    ],
)
def test_a_mistake_in_a_sweep(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(eyegender.UserError, match=message):
        eyegender.sweep(overrides)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eyegender.load_model("nonsense"), "model must be models:/NAME@ALIAS"),
        (lambda: eyegender.load_model("runs:/x"), "no runs are tracked in"),
        (lambda: eyegender.load_study("x"), "no study 'x'|no file"),
        (lambda: eyegender.promote("x", overrides={"tracking.root": "nowhere"}), "no runs are tracked in nowhere"),
        (lambda: eyegender.promote("x", alias="a b"), "alias"),
        (lambda: eyegender.compare("x"), "runs must be a list of runs, got 'x'"),
        (lambda: eyegender.compare(None), "no runs are tracked in"),
        (lambda: eyegender.compare(overrides={"by": "val/loss", "mode": "max"}), "mode must be min for by=val/loss"),
        (lambda: eyegender.compose(config_dir="nowhere"), "config_dir must be a folder"),
        (lambda: eyegender.compose(config_dir=5), "config_dir must be a folder, got 5"),  # type: ignore[arg-type]
        (lambda: eyegender.load_model(3.5), "model must be models:/.*, got 3.5; give one"),  # type: ignore[arg-type]
        (lambda: eyegender.load_study(7), "name must be the name of a study, got 7"),  # type: ignore[arg-type]
        (lambda: eyegender.load_study(""), "name must be the name of a study, got ''"),
        (lambda: eyegender.load_study("x", 5), "storage must be a text .* got 5"),  # type: ignore[arg-type]
        (lambda: eyegender.promote(7), "a run must be a result of train or the id .* got 7"),  # type: ignore[arg-type]
        (lambda: eyegender.compare([None]), "a run must be a result of train .* got None"),  # type: ignore[list-item]
    ],
)
def test_mistakes_of_the_other_functions(call: Callable[[], object], message: str) -> None:
    with pytest.raises(eyegender.UserError, match=message):
        call()


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (7, r"got 7; write it as \[CALLBACK"),
        (pl.Callback(), r"write it as \[CALLBACK"),
        ({"a": pl.Callback()}, r"write it as \[CALLBACK"),
        ([pl.Callback(), "y"], "got 'y' of builtins.str; correct it"),
        ([pl.callbacks.Timer], r"got the class Timer; write Timer\(\.\.\.\)"),
    ],
)
def test_what_is_no_callback_is_refused_before_the_run_begins(callbacks: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(eyegender.UserError, match=f"callbacks must be a list .* of pytorch_lightning, .*{message}"):
        eyegender.train({"output": "out"}, callbacks=callbacks)
    assert list(tmp_path.iterdir()) == []


def state() -> dict[str, object]:
    return {
        "hydra": GlobalHydra.instance().hydra,
        "config": HydraConfig.instance().cfg,
        "groups": sorted(ConfigStore.instance().repo),
        "version": version.getbase(),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "handlers": logging.root.handlers[:],
        "level": logging.root.level,
        "argv": sys.argv,
        "hook": sys.excepthook,
        "main": getattr(sys.modules["__main__"], "__spec__", None),
        "random": (random.getstate(), torch.get_rng_state().tolist()),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "threads": torch.get_num_threads(),
    }


def disturb() -> None:
    os.environ["SOMETHING"] = "else"
    os.environ.pop("HOME", None)
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logging.config.dictConfig({"version": 1, "root": {"level": "DEBUG", "handlers": []}})
    logging.root.addHandler(logging.NullHandler())
    pretend_command("eyegender.train", ["x=1"])
    sys.excepthook = print  # type: ignore[assignment]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    torch.set_num_threads(torch.get_num_threads() + 1)
    version.setbase("1.2")
    ConfigStore.instance().store(group="disturbed", name="x", node={})


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before(fails: bool) -> None:
    eyegender.compose()  # finds Hydra's plugins
    before = state()
    try:
        with isolated():
            disturb()
            assert state() != before
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert state() == before


def test_the_users_log_file_stays_open(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "own.log", mode="w")
    log = logging.getLogger("my.application")
    log.addHandler(handler)
    log.warning("before")
    with isolated():
        disturb()  # configuring logging anew closes every handler that logging knows
    log.warning("after")
    handler.close()
    assert (tmp_path / "own.log").read_text() == "before\nafter\n"


def test_it_works_within_a_hydra_application(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("mine: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        assert eyegender.compose({"seed": 7}).seed == 7
        assert compose("own").mine == 1
        assert str(version.getbase()) == "1.2"


def test_it_works_in_another_thread() -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(eyegender.compose({"seed": 5}).seed))
    thread.start()
    thread.join()
    assert found == [5]


def test_config_dir_adds_config_files(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\nseed: 12\n")
    assert eyegender.compose(["experiment=mine"], config_dir=tmp_path).seed == 12


def test_old_keys_have_their_new_names() -> None:
    assert eyegender.compose({"model.weight_decay": 0.5}).optimizer.weight_decay == 0.5


def test_several_devices_are_refused_where_lightning_cannot_start_them() -> None:
    code = (
        "import sys; sys.ps1 = '>>> '\n"  # as in a notebook
        "import eyegender\n"
        "try:\n"
        "    eyegender.train({'trainer': 'cpu', 'trainer.devices': 2, 'trainer.strategy': 'ddp', 'data.n': 60})\n"
        "except eyegender.UserError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "trainer: " in done.stdout, done.stderr
    assert "interactive" in done.stdout
