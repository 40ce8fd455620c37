"""Random command lines, and the real commands up to where they would begin to work."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from eyegender.core.command import command
from eyegender.core.config_files import config_folder
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from omegaconf import DictConfig

VALUES = (
    "0", "1", "-1", "2", "1e-3", "1e400", "-1e400", "nan", "inf", "-0.0", "9" * 30, "true", "false", "null",
    "none", "''", "",
    "abc", "é", "a b", "'a b'", '"x"', "'", '"', "a'b", "\\", "$", "${", "${}", "${seed}", "${data.size}", "${nothing}",
    "${oc.env:NOTHING_OF_THIS_NAME}", "${oc.env:HOME}", "${now:%Y}", "${hydra:job.num}", "${unknown:1}",
    "${oc.decode:x}",
    "[]", "[1,2]", "[1,", "[[[[1]]]]", "{}", "{a:1}", "{a:{b:2}}", "{", "[null,null]", "choice(1,2)",
    "range(1,3)", "1,2",
    "interval(0,1)", "int(x)", "str(1)", "shuffle(1,2)", "glob(*)", "tag(a,1)", "sort(3,1)", "f(", "os.system",
    "../x", "/",
    "x" * 300, "*", "?", "=", "a=b", "a:b", "@", "a@b", "http://u:secret@h:1", "sqlite:///x.db",
    "postgresql://u:p@h/d", "🙂",
    "cpu", "gpu", "auto", "all", "person", "random", "file", "gray", "rgb", "val/accuracy", "balanced",
    "onecycle", "bf16-mixed",
)  # fmt: skip
GROUPS = (
    "data",
    "model",
    "trainer",
    "features",
    "tracking",
    "experiment",
    "hydra/sweeper",
    "hydra/job_logging",
    "sweeps",
)
OPTIONS = (
    "synthetic", "folder", "celeba", "mobilenet_v2", "inception_v3", "cpu", "gpu", "ddp", "auto", "on", "off", "local",
    "server", "null", "nothing", "_common", "../train", "optuna_study", "stdout", "grid", "finetune",
)  # fmt: skip
FLAGS = (
    "-m", "--multirun", "--run", "--cfg", "--cfg=job", "--resolve", "--info", "--help", "--foo", "-x", "--", "-p",
    "--version", "--config-name=nothing", "--config-dir=nowhere", "--experimental-rerun=x.pickle", "--package=x",
)  # fmt: skip
HYDRAS = (
    "hydra.run.dir", "hydra.sweep.subdir", "hydra.job.name", "hydra.verbose", "hydra.sweeper.n_trials",
    "hydra.sweeper.params", "hydra.output_subdir", "nothing", "a.b.c",
)  # fmt: skip
COMMANDS = (
    "train",
    "train",
    "train",
    "audit",
    "evaluate",
    "predict",
    "compare",
    "promote",
    "export",
    "demo",
    "sync",
    "study",
)


class CommandLines:
    """Draws and runs command lines, in a folder of their own.

    The command itself is replaced by what it does first: check its config and, for training, build everything that
    needs no data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lines"
        self.keys = {name: _keys(name) for name in dict.fromkeys(COMMANDS)}

    def __enter__(self) -> Self:
        self.before = Path.cwd(), list(sys.argv), sys.excepthook, dict(os.environ), logging.raiseExceptions
        Plugins.instance()  # which registers Hydra's own configs, once
        self.configs = copy.deepcopy(ConfigStore.instance().repo)
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        here, sys.argv, sys.excepthook, environment, logging.raiseExceptions = self.before
        ConfigStore.instance().repo = self.configs
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)

    def draw(self, chance: random.Random) -> tuple[str, list[str]]:
        """A command and its arguments: mostly overrides of keys that it has, some of them spoilt."""
        name = chance.choice(COMMANDS)
        lines = [self._override(name, chance) for _ in range(chance.randint(0, 5))]
        if name in {"train", "audit"} and chance.random() < 0.1:
            sweep = ["hydra/sweeper=optuna_study", "hydra.sweeper.n_trials=1", "hydra.sweeper.direction=maximize"]
            lines = ["-m", *sweep, *lines]
        if chance.random() < 0.1:
            lines.insert(0, chance.choice(FLAGS))
        return name, [line.replace("\0", "") for line in lines]

    def _override(self, name: str, chance: random.Random) -> str:
        way = chance.random()
        if way < 0.15:
            line = f"{chance.choice(('', '+', '++', '~', '/'))}{chance.choice(GROUPS)}={chance.choice(OPTIONS)}"
        else:
            key = chance.choice(list(self.keys[name]))
            value = self.keys[name][key] if chance.random() < 0.4 else chance.choice(VALUES)
            operator = chance.choice(("",) * 8 + ("+", "++", "~"))
            line = f"{operator}{key}={value}"
        if chance.random() < 0.15:
            at = chance.randrange(len(line) + 1)
            line = line[:at] + chance.choice(("", "=", ".", " ", "'", "[", "}", "$", "@", ":", ",")) + line[at + 1 :]
        return line

    def run(self, name: str, arguments: list[str]) -> None:
        """Raises UserError with the line that the command lines, and RuntimeError for whatever else it did."""
        os.chdir(self.folder)
        GlobalHydra.instance().clear()
        ConfigStore.instance().repo = copy.deepcopy(self.configs)  # a command sees what it registered itself
        sys.argv = [f"eyegender.{name}", *arguments]
        groups = {"evaluate": ("data", "tracking")}.get(name, None if name in {"train", "audit", "sync", "study"} else (
            "tracking",
        ))  # fmt: skip
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                command(name, groups)(_beginning(name))()
                code = 0
            except SystemExit as stopped:
                code = stopped.code or 0
        lines = err.getvalue().strip().splitlines()
        if lines and lines[0].startswith("Error executing job with overrides: "):
            del lines[0]  # Hydra says which of several jobs it was
        if (
            code == 2
            and lines
            and lines[0].startswith("eyegender: ")
            and all(line.startswith("  ") for line in lines[1:])
        ):
            raise UserError(lines[0])
        # A sweep whose trials failed prints each reason on a separate line.
        if code not in {0, 1} or "Traceback" in err.getvalue() or (code == 1 and "failed" not in out.getvalue()):
            raise RuntimeError(f"exit code {code}, {err.getvalue()[-300:]!r}")


def _beginning(name: str) -> Callable[[DictConfig], float]:
    def task(cfg: DictConfig) -> float:
        return _begun(name, cfg)

    task.__module__ = f"eyegender.{name}"  # where Hydra takes the command to be
    return task


def _begun(name: str, cfg: DictConfig) -> float:
    from eyegender.core import options, schema

    kinds: dict[str, Any] = {
        "evaluate": options.EvaluateOptions, "predict": options.PredictOptions, "compare": options.CompareOptions,
        "promote": options.PromoteOptions, "export": options.ExportOptions, "demo": options.DemoOptions,
        "study": options.StudyOptions, "sync": options.SyncOptions,
    }  # fmt: skip
    if name in kinds:
        schema.parse_as(cfg, kinds[name])
    if name in {"train", "audit"}:
        parsed = schema.parse(cfg) if name == "train" else schema.parse_as(cfg, schema.AuditConfig)
        from eyegender.training.build import build_data, build_trainer, trainer_settings

        build_data(parsed)
        build_trainer(trainer_settings(parsed), logger=False, enable_checkpointing=False)
    return 0.5


def _keys(name: str) -> dict[str, str]:
    """Every key of a command's config, of the groups' files and some of Hydra's own, and their values there."""
    conf = config_folder("conf")
    found = dict.fromkeys(HYDRAS, "1")
    files = [conf / f"{name}.yaml", *sorted(conf.glob("*/*.yaml"))] if name != "audit" else [
        conf / "train.yaml", *sorted(conf.glob("*/*.yaml"))
    ]  # fmt: skip
    for path in files:
        inside = "" if path.parent == conf else f"{path.parent.name}."
        found |= _flat(OmegaConf.to_container(OmegaConf.load(path)), inside)
    return {key: found[key] for key in sorted(found) if not key.startswith(("defaults", "hydra.help", "experiment."))}


def _flat(node: Any, prefix: str) -> dict[str, str]:
    if not isinstance(node, dict):
        return {}
    found = {}
    for name, value in node.items():
        found |= {f"{prefix}{name}": "null" if value is None else str(value), **_flat(value, f"{prefix}{name}.")}
    return found
