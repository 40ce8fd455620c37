"""What a run says of itself at its start."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from eyegender.core.secrets import redact_config, redact_override
from eyegender.models.optimization import progress_of
from eyegender.tracking.location import find_location
from eyegender.tracking.tracker import Tracker, last_epoch
from eyegender.training import environment
from eyegender.training.requeue import key_of_earlier_start, requeued
from eyegender.training.resume import data_identity, written_config
from eyegender.training.run_lock import run_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.training.build import BuiltModel
    from eyegender.training.resume import Change
    from hydra_plugins.optuna_study import TrialHandle

log = logging.getLogger("eyegender")

RUN_KEY, PARENT_RUN = "mlflow_run_key", "mlflow_parent_run"  # notes of a trial and of a study
CONFIG_FILE, ENVIRONMENT_FILE = "config.yaml", "environment.json"


def begin_tracking(
    cfg: TrainConfig,
    output_dir: Path,
    overrides: list[str],
    built: BuiltModel,
    data: EyesDataModule,
    *,
    precision: str,
    checkpoint: dict[str, Any] | None,
    trial: TrialHandle | None = None,
    changes: Sequence[Change] = (),
) -> Tracker:
    """Start the MLflow run, or go on with the one that the checkpoint or the trial's earlier attempt belongs to.

    In another experiment than that one's a new run begins, and where that one has gone on beyond this checkpoint, for
    its later epochs were others. A new run is told all earlier epochs, too.
    """
    config = redact_config(cfg.model_dump(mode="json", by_alias=True))
    overrides = [redact_override(override) for override in overrides]
    tags = {
        **environment.commit(),
        "overrides": " ".join(overrides),
        "data.source": data.source,
        "data.fingerprint": data.fingerprint,
        "split.kind": data.split.kind,
        "split.fingerprint": data.split.fingerprint,
        "weights.kind": built.weights.kind,
        "weights.source": built.weights.source,
        "weights.sha256": built.weights.sha256,
        "output_dir": str(output_dir),
    }
    if data.source == "synthetic":
        tags["synthetic"] = "true"
    if built.weights.fallback:
        tags["weights.warning"] = "no pre-trained weights at hand: random weights"
    resume = None
    began_in = None if checkpoint is None else began_in_of(checkpoint) or run_folder(Path(cfg.ckpt_path or output_dir))
    if checkpoint is not None and (identity := checkpoint.get("run")) and _same_experiment(identity, cfg):
        reached = 0 if began_in is None or trial is not None or requeued() else last_epoch(began_in)
        if reached > progress_of(checkpoint).epochs:
            log.warning(
                "the run of this checkpoint has gone on to epoch %d; it goes on from here as a new run", reached
            )
            tags["branched_from"] = str(identity["run_id"] or identity["key"])
        else:
            resume = (identity["key"], identity["run_id"])
    elif trial is not None and (key := trial.user_attrs.get(RUN_KEY)):
        resume = (key, None)  # the earlier attempt died before its first checkpoint
    elif trial is None and (key := key_of_earlier_start(output_dir)):
        resume = (key, None)
    if trial is not None:
        tags |= trial_tags(trial)
    tracker = Tracker(
        find_location(cfg.tracking.uri, cfg.tracking.root),
        output_dir,
        experiment=cfg.tracking.experiment,
        name=cfg.tracking.run_name or run_name(cfg, overrides),
        tags=tags,
        resume=resume,
        began_in=None if resume is None else began_in,
    )
    if trial is not None:
        trial.set_user_attr(RUN_KEY, tracker.key)
        trial.set_user_attr("output_dir", str(output_dir.resolve()))
    (output_dir / CONFIG_FILE).write_text(yaml.safe_dump(config, sort_keys=False))
    told = {"versions": environment.versions(), "hardware": environment.hardware()}
    (output_dir / ENVIRONMENT_FILE).write_text(json.dumps(told, indent=2))
    counts = data.counts()
    params = flatten(config) | {"finetune_stages": str(built.card.depth), "input_size": str(built.card.size)}
    params |= {f"count.{part}.{name}": str(n) for part, by in counts.items() for name, n in by.items()}
    # Parameters of a run cannot change, and a resumed run may have more epochs; it may also have been deleted for good.
    tracker.params(params, unless_there=resume is not None)
    tracker.dataset(
        name=data.source,
        digest=data.fingerprint[:36],
        source=cfg.data.reader.arguments.get("root", data.source),
        profile=json.dumps({"counts": counts, "split": data.split.kind, "classes": list(data.samples.classes)}),
    )
    after = progress_of(checkpoint).epochs if checkpoint is not None else 0
    now = {f"resumed.{c.key}": f"{c.before} until epoch {after}, then {c.now}" for c in changes}
    if resume is not None:
        now |= {"mlflow.runName": cfg.tracking.run_name} if cfg.tracking.run_name else {}
        now["output_dir"] = str(output_dir)
    if now:
        tracker.tags(now)
    tracker.tags({"precision": precision, **{f"hardware.{k}": v for k, v in environment.hardware().items()}})
    tracker.artifact(CONFIG_FILE)
    tracker.artifact(ENVIRONMENT_FILE)
    return tracker


def trial_tags(trial: TrialHandle) -> dict[str, str]:
    """What links a run to its trial: MLflow nests it below the study's run."""
    tags = {"study.name": trial.study_name, "trial.number": str(trial.number)}
    if parent := trial.study_attrs.get(PARENT_RUN):
        tags["mlflow.parentRunId"] = parent
    return tags


def origin(tracker: Tracker, cfg: TrainConfig, data: EyesDataModule) -> Callable[[], dict[str, Any]]:
    """What a checkpoint keeps of its run, config and data; the run's id is known once the store has been reached."""
    run = {"key": tracker.key, "began_in": str(tracker.began_in.resolve()), "experiment": cfg.tracking.experiment}
    kept = {"config": written_config(cfg), "data": data_identity(data)}
    return lambda: {"run": {**run, "run_id": tracker.run_id}, **kept}


def began_in_of(checkpoint: Mapping[str, Any]) -> Path | None:
    """The folder in which the checkpoint's run began, if it is there."""
    folder = (checkpoint.get("run") or {}).get("began_in")
    return Path(folder) if folder and Path(folder).is_dir() else None


def _same_experiment(identity: Mapping[str, Any], cfg: TrainConfig) -> bool:
    return identity.get("experiment") in {None, cfg.tracking.experiment}


def run_name(cfg: TrainConfig, overrides: list[str]) -> str:
    """Model and what was changed, without what a list of runs shows in columns of its own."""
    hidden = ("model=", "data.root=", "data.reader.", "tracking", "trainer.progress", "ckpt_path", "hydra")
    changed = [o.lstrip("+~").partition("=") for o in overrides if "=" in o and not o.lstrip("+~").startswith(hidden)]
    # Keys lose their section only (`split.seed` and `seed` are two), absolute paths all but their last part.
    short = [
        f"{key.partition('.')[2] or key}={value.rpartition('/')[2] if value.startswith('/') else value}"
        for key, _, value in changed
    ]
    return " ".join([cfg.model.name, *short])[:120]


def flatten(config: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings to dotted keys; everything else to text."""
    if not isinstance(config, Mapping):
        return {prefix: str(config)}
    flat: dict[str, str] = {}
    for name, value in config.items():
        flat |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
    return flat
