"""Studies with trials of every state, for tests of what shows them."""

from __future__ import annotations

import datetime
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from eyegender.tracking.experiment_view import RUN_ADDRESS
from hydra_plugins.optuna_study import StudyStatus, study_status

DEPTHS = CategoricalDistribution(["0", "2", "4", "8", "all"])
RATES, MOMENTA = FloatDistribution(1e-4, 1e-2, log=True), FloatDistribution(0.5, 0.99)
START = datetime.datetime(2026, 1, 1)  # noqa: DTZ001 - Optuna's times have no zone
EPOCHS, SECONDS = 10, 4.0
STATES = ("complete", "pruned", "complete", "failed", "complete", "paused", "complete", "pruned")
ADDRESS = "http://127.0.0.1:5000/#/experiments/1/runs/"


class Trials:
    """A study in an SQLite database in `folder`; trials of it are added one by one.

    Args:
        folder: folder of the database.
        directions: directions of the objectives.
        name: name of the study.
        metrics: names of the objectives, if they have any.
        seed: seed of what is drawn.
    """

    def __init__(
        self, folder: Path, *directions: str, name: str = "s", metrics: list[str] | None = None, seed: int = 0
    ) -> None:
        self.folder, self.url, self.name = folder, f"sqlite:///{folder}/study.db", name
        self.study = optuna.create_study(
            storage=self.url, study_name=name, directions=list(directions or ("maximize",))
        )
        if metrics:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.study.set_metric_names(metrics)
        self.rng, self.clock, self.made = np.random.default_rng(seed), START, []

    def add(
        self,
        state: str = "complete",
        *,
        params: dict[str, tuple[Any, Any]] | None = None,
        values: list[float] | None = None,
        reported: list[float] | None = None,
        reason: str = "loss is NaN",
        attrs: dict[str, Any] | None = None,
        seconds: float = SECONDS,
    ) -> None:
        """Add a trial; what is not given is drawn.

        Args:
            state: state of the trial.
            params: value and distribution of each parameter.
            values: its objectives.
            reported: value of each epoch.
            reason: why it failed.
            attrs: further user attributes.
            seconds: seconds of an epoch.
        """
        number, rng = len(self.made), self.rng
        if params is None:
            params = {"model.finetune_depth": (str(rng.choice(DEPTHS.choices)), DEPTHS)}
            params["model.lr"] = float(10 ** rng.uniform(-4, -2)), RATES
            params["optimizer"] = str(rng.choice(["adamw", "sgd"])), CategoricalDistribution(["adamw", "sgd"])
            if params["optimizer"][0] == "sgd":
                params["optimizer.momentum (optimizer=sgd)"] = float(rng.uniform(0.5, 0.99)), MOMENTA
        if reported is None:
            length = EPOCHS if state == "complete" else 3
            top = rng.uniform(0.7, 0.9)
            reported = [top - 0.3 * math.exp(-e / 3) + rng.normal(0, 0.01) for e in range(1, length + 1)]
        if values is None and state in ("complete", "pruned"):
            values = [reported[-1] if reported else 0.5] * len(self.study.directions)
        system: dict[str, Any] = {
            "optuna_study:seconds": {str(e): round(e * seconds, 3) for e in range(1, len(reported) + 1)},
            "optuna_study:max_resource": EPOCHS,
        }
        if state == "paused":
            system["optuna_study:paused"] = {"step": len(reported), "worker": 0}
        if len(self.study.directions) > 1:
            system["optuna_study:steps"] = {str(e): value for e, value in enumerate(reported, start=1)}
        user = {"output_dir": str(self.folder / "trials" / str(number)), RUN_ADDRESS: f"{ADDRESS}{number:032x}"}
        user |= {"failure": reason} if state == "failed" else {}
        stored = {"paused": TrialState.WAITING, "failed": TrialState.FAIL}.get(state)
        trial = create_trial(
            state=stored or TrialState[state.upper()],
            values=values if state in ("complete", "pruned") and values else None,
            params={key: value for key, (value, _) in params.items()},
            distributions={key: distribution for key, (_, distribution) in params.items()},
            intermediate_values=(dict(enumerate(reported, start=1)) if len(self.study.directions) == 1 else {}),
            user_attrs=user | (attrs or {}),
            system_attrs=system,
        )
        trial.datetime_start = self.clock
        self.clock += datetime.timedelta(seconds=max(1.0, seconds * len(reported)))
        if state not in ("paused", "running"):
            trial.datetime_complete = self.clock
        self.made.append(trial)
        self.study.add_trial(trial)

    def add_all(self, n: int) -> Trials:
        """Add this many trials of all states."""
        for i in range(n):
            self.add(STATES[i % len(STATES)])
        return self

    @property
    def status(self) -> StudyStatus:
        return study_status(self.url, self.name)
