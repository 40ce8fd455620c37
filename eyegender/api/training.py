"""`eyegender.train`: a training run from Python."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from eyegender.api.isolation import pretend_command
from eyegender.api.running import ConfigOf
from eyegender.api.tables import lines, table
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from omegaconf import DictConfig
    from pytorch_lightning import Callback

    from eyegender.api.overrides import Overrides
    from eyegender.inference.load import LoadedModel
    from eyegender.training.summary import RunResult


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Args:
        metrics: train/ and val/ metrics of the best epoch, and test/ metrics if the run was tested, under the names of
            metrics.json.
        history: one row per epoch, with the epoch as index, counted from 1.
        run_id: MLflow's id of the run; None if its store was unreachable.
        output_dir: folder with metrics.json, checkpoints/ and figures/.
    """

    metrics: dict[str, float]
    history: pd.DataFrame = field(repr=False)
    run_id: str | None
    output_dir: Path

    @cached_property
    def model(self) -> LoadedModel:
        """The network with the weights of the best epoch, read from the run's folder.

        Raises:
            UserError: the files of the run are gone.
        """
        from eyegender.api.loading import load_local_model

        return load_local_model(self.output_dir, self.run_id)

    def _repr_html_(self) -> str:
        splits = [split for split in ("test", "val") if f"{split}/loss" in self.metrics]
        names = [name.partition("/")[2] for name in self.metrics if name.startswith("val/")]
        rows = [(name, *(self.metrics.get(f"{split}/{name}", "") for split in splits)) for name in names]
        where = (f"Output {self.output_dir}", f"Run {self.run_id or 'not yet in MLflow'}, {len(self.history)} epochs")
        return table(("metric", *splits), rows) + lines(where)


def train(
    overrides: Overrides = None, *, callbacks: Sequence[Callback] = (), config_dir: str | Path | None = None
) -> TrainResult:
    """Train, test and track a run in this process, as `eyegender train` does.

    It prints what the command prints. Hydra, logging, signals, the environment and random numbers are as before
    afterwards, also after an error.

    Args:
        overrides: a list of strings as on the command line, or a dict, nested or with dotted keys.
        callbacks: further Lightning callbacks; they are called before the ones of the run.
        config_dir: folder with further config files, as `--config-dir`.

    Raises:
        UserError: what the user can repair, with the line that the command would print.
        KeyboardInterrupt: Ctrl-C, or the interrupt of a notebook, after a checkpoint was saved.

    Example:
        >>> run = train({"data": "folder", "data.root": "pictures", "trainer.max_epochs": 3})  # doctest: +SKIP
        >>> run.metrics["test/accuracy"]  # doctest: +SKIP
        0.97
    """
    with ConfigOf("train", config_dir=config_dir).opened() as config:
        arguments = config.lines(overrides)
        callbacks = _checked_callbacks(callbacks)
        pretend_command("eyegender.train", arguments)
        task = _Task(config, callbacks)
        config.hydra.run("train", task, arguments)
        return task.result()


def _checked_callbacks(callbacks: Any) -> list[Callback]:
    """The callbacks as a list.

    Raises:
        UserError: it is no list, or something in it is no callback.
    """
    rule = "callbacks must be a list of callbacks of pytorch_lightning"
    if isinstance(callbacks, str | Mapping) or not isinstance(callbacks, Iterable):
        raise UserError(f"{rule}, got {callbacks!r}; write it as [CALLBACK, CALLBACK]")
    given = list(callbacks)
    if given:
        from pytorch_lightning import Callback

        for one in given:
            if isinstance(one, type):
                raise UserError(f"{rule}, got the class {one.__name__}; write {one.__name__}(...)")
            if not isinstance(one, Callback):
                kind = type(one)
                raise UserError(f"{rule}, got {one!r} of {kind.__module__}.{kind.__qualname__}; correct it")
    return given


class _Task:
    """Hydra's task function; it keeps its result or error, because Hydra would print the error itself."""

    def __init__(self, config: ConfigOf, callbacks: Sequence[Callback]) -> None:
        self.config, self.callbacks = config, callbacks
        self._result: RunResult | None = None
        self._error: Exception | None = None

    def __call__(self, cfg: DictConfig) -> None:
        from eyegender.core.command import prepare_job
        from eyegender.train import train_job

        self.config.begun = True
        try:
            prepare_job(cfg)
            self._result = train_job(cfg, callbacks=self.callbacks)
        except Exception as error:
            self._error = error

    def result(self) -> TrainResult:
        if self._error is not None:
            raise self._error
        result = self._result
        assert result is not None
        metrics = {name: value for name, value in result.metrics.items() if math.isfinite(value)}
        return TrainResult(metrics, history_frame(result.history), result.run_id, result.output_dir)


def history_frame(rows: list[dict[str, float]]) -> pd.DataFrame:
    """The metrics of each epoch as a table, with the epoch as index."""
    import pandas as pd

    return pd.DataFrame([{**row, "epoch": int(row["epoch"])} for row in rows]).set_index("epoch")


def read_result(folder: Path) -> TrainResult:
    """The result of a finished run from its folder.

    Raises:
        OSError, UserError: a file is missing or damaged.
    """
    from eyegender.training.callbacks import stored_history
    from eyegender.training.checkpoints import load_checkpoint

    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    run: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    history = history_frame(stored_history(load_checkpoint(folder / "checkpoints" / "last.ckpt")))
    return TrainResult(metrics["metrics"], history, run.get("run_id"), folder)
