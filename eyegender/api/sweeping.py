"""`eyegender.sweep`: a hyperparameter search from Python."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyegender.api.isolation import pretend_command
from eyegender.api.running import ConfigOf
from eyegender.api.tables import lines, table
from eyegender.api.training import read_result
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from eyegender.api.overrides import Overrides
    from eyegender.api.training import TrainResult
    from eyegender.inference.load import LoadedModel
    from hydra_plugins.optuna_study import StudyStatus

_SHOWN = 5


@dataclass(frozen=True)
class SweepResult:
    """The study of a sweep when the call ended.

    Args:
        study_name: name of the study, by which another call continues it.
        storage: storage of the study.
        status: its state: counts, trials from best to worst, failures with their reasons.
        run_id: MLflow's id of the study's run, the parent of its trials' runs; None if there is none.
        output_dir: folder of the sweep, with a folder per trial and report/.
    """

    study_name: str
    storage: str = field(repr=False)
    status: StudyStatus = field(repr=False)
    run_id: str | None
    output_dir: Path

    @cached_property
    def best(self) -> TrainResult | None:
        """The winner as a run, tested if the sweep has tested it; None if no trial is complete.

        It is the trial that `status.winner` recommends, which need not have the best value.

        Raises:
            UserError: the files of the best trial are gone.
        """
        from eyegender.studies.winner import trial_folder

        winner = self.status.winner or next(iter(self.status.best), None)
        if winner is None:
            return None
        folder = trial_folder(winner, self.output_dir)
        try:
            return read_result(folder)
        except (OSError, ValueError) as error:
            raise UserError(f"the files of the best trial must be in {folder}, got {error}; put them back") from error

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the best trial."""
        return {} if self.best is None else self.best.metrics

    @property
    def model(self) -> LoadedModel | None:
        """The model of the best trial."""
        return None if self.best is None else self.best.model

    @property
    def history(self) -> pd.DataFrame:
        """One row per trial in order, with its number as index: its state, values, parameters and seconds."""
        import pandas as pd

        one = len(self.status.directions) == 1
        rows: list[dict[str, Any]] = []
        for trial in self.status.trials:
            names = ["value"] if one else [f"value_{position}" for position in range(len(trial.values))]
            row = {"trial": trial.number, "state": trial.state, **dict(zip(names, trial.values, strict=False))}
            rows.append({**row, **trial.params, "seconds": trial.seconds})
        return pd.DataFrame(rows, columns=None if rows else ["trial", "state", "value"]).set_index("trial")

    def study(self) -> optuna.Study:
        """Optuna's own study, for plots and importances."""
        from eyegender.api.loading import load_study

        return load_study(self.study_name, self.storage)

    def _repr_html_(self) -> str:
        counts, best = self.status.counts, self.status.best[:_SHOWN]
        names = list(dict.fromkeys(name for trial in best for name in trial.params))
        rows = [
            (trial.number, *(f"{value:.4f}" for value in trial.values), *(trial.params.get(name, "") for name in names))
            for trial in best
        ]
        values = ["value"] * len(self.status.directions)
        title = f"Study {self.study_name}: {counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed"
        return table(("trial", *values, *names), rows, title) + lines((f"Output {self.output_dir}",))


def sweep(overrides: Overrides = None, *, config_dir: str | Path | None = None) -> SweepResult:
    """Search hyperparameters as `eyegender train -m` does: a study with trials, of which the best is tested once.

    `{"sweeps": "finetune"}` chooses one of our search spaces. Without `sweeps`, the ranges in the overrides are the
    search space, and the study gets a name with the time. The same call with the same name continues a study.

    Args:
        overrides: a list of strings as on the command line, or a dict; a text such as `tag(log, interval(1e-4, 1e-2))`
            is a range.
        config_dir: folder with further config files, as `--config-dir`.

    Raises:
        UserError: what the user can repair, also if too many trials failed; the message says why.
        KeyboardInterrupt: Ctrl-C, or the interrupt of a notebook, after the running trial has saved its checkpoint.

    Example:
        >>> found = sweep({"model.lr": "tag(log, interval(1e-4, 1e-2))", "hydra.sweeper.n_trials": 8})  # doctest: +SKIP
        >>> found.history.sort_values("value")  # doctest: +SKIP
    """
    with ConfigOf("train", config_dir=config_dir).opened() as config:
        arguments = _with_space([*config.lines(overrides, ranges=True)])
        hydra = config.composed_sweep(arguments).hydra
        if not str(hydra.sweeper.get("_target_")).endswith("OptunaStudySweeper"):
            raise UserError("hydra/sweeper must be optuna_study in a sweep from Python, got another one; remove it")
        name, storage = hydra.sweeper.study_name, hydra.sweeper.storage
        folder = Path(str(hydra.sweep.dir)).absolute()
        if storage is None or name is None:
            raise UserError("a sweep from Python needs hydra.sweeper.storage and study_name, got null; set both")
        if hydra.sweeper.plan or not hydra.sweeper.wait:
            raise UserError(
                "a sweep from Python runs until it ends, got hydra.sweeper.plan=true or wait=false; use the command"
            )
        pretend_command("eyegender.train", ["-m", *arguments])
        from eyegender.studies.study_run import PARENT_RUN
        from eyegender.train import main
        from hydra_plugins.optuna_study import study_status

        try:
            config.begun = True
            config.hydra.multirun("train", main.job, ["hydra.mode=MULTIRUN", *arguments])  # type: ignore[attr-defined]
        except SystemExit as end:
            if end.code == 1:
                raise UserError(_why_it_ended(study_status(storage, name))) from None
            raise
        status = study_status(storage, name)
        return SweepResult(name, storage, status, status.user_attrs.get(PARENT_RUN), folder)


def _with_space(arguments: list[str]) -> list[str]:
    """`sweeps=` may lack its plus; without it, what all our sweeps share is added, and a name."""
    arguments = [f"+{line}" if line.startswith("sweeps=") else line for line in arguments]
    if any(line.startswith(("+sweeps=", "hydra/sweeper=")) for line in arguments):
        return arguments
    named = any(line.lstrip("+").startswith("hydra.sweeper.study_name=") for line in arguments)
    name = [] if named else [f"hydra.sweeper.study_name=sweep-{time.strftime('%Y%m%d-%H%M%S')}"]
    return ["+sweeps=_study", *name, *arguments]


def _why_it_ended(status: StudyStatus) -> str:
    failures = status.failures
    first = f"trial {failures[0].number}: {failures[0].reason}" if failures else "no trial"
    return (
        f"study {status.name} ended because too many trials failed ({len(failures)}), the first one with {first}; "
        "correct that, or raise hydra.sweeper.max_failure_rate"
    )
