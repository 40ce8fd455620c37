"""The MLflow run of a training run: how it starts or resumes, what it records first, and how it ends on an error."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import yaml

from eyegender.core.command_line.alerts import describe_run
from eyegender.core.command_line.dict_values import shown
from eyegender.core.eye_study import split_title
from eyegender.core.processes import is_requeued
from eyegender.core.secrets import redact_config, redact_override
from eyegender.models.finite_check import NotFiniteError
from eyegender.models.micro_batches import is_out_of_memory
from eyegender.tracking.experiment_view import RUN_ADDRESS, run_address
from eyegender.tracking.location import find_location
from eyegender.tracking.names import MOST_CLASSES, class_keys, key_of
from eyegender.tracking.run_names import run_name, trial_name
from eyegender.tracking.tracker import Tracker, last_epoch
from eyegender.training import environment
from eyegender.training.callbacks import HAS_PAUSED
from eyegender.training.interruptions import (
    StoppedBySignalError,
    earlier_run_key,
    not_finite_error,
    out_of_memory_error,
)
from eyegender.training.resume import checkpoint_config, data_identity
from hydra_plugins.optuna_study import TrialLost, TrialPaused, TrialPruned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.classifier import Classifier
    from eyegender.models.weights import Weights
    from eyegender.training.build import BuiltModel
    from eyegender.training.interruptions import StopSignal
    from eyegender.training.resume import ResumePoint
    from hydra_plugins.optuna_study import TrialHandle

log = logging.getLogger("eyegender")

RUN_KEY, PARENT_RUN = "mlflow_run_key", "mlflow_parent_run"  # attributes of a trial and of a study
CONFIG_FILE, ENVIRONMENT_FILE = "config.yaml", "environment.json"


def begin_tracking(
    cfg: TrainConfig,
    output_dir: Path,
    overrides: list[str],
    built: BuiltModel,
    data: EyesDataModule,
    *,
    precision: str,
    resume: ResumePoint | None,
    trial: TrialHandle | None = None,
) -> Tracker:
    """Start the MLflow run, or resume that of the checkpoint or of the trial's earlier attempt.

    A new run starts in another experiment, and if the run of the checkpoint has already continued beyond it. It
    receives the metrics of all earlier epochs, too.

    Args:
        cfg: config of the run.
        output_dir: output folder; the config and the environment are written there.
        overrides: overrides on the command line.
        built: the classifier with its specification and initial weights.
        data: the data module, after its `setup`.
        precision: Lightning's name of the precision.
        resume: where the run resumes, or None.
        trial: trial of a sweep that this run is, or None.
    """
    config = redact_config(cfg.model_dump(mode="json", by_alias=True))
    flat = flatten(config)
    overrides = [redact_override(override) for override in overrides]
    resumed_run, branched_from = _run_to_resume(cfg, output_dir, resume, trial)
    tags = {
        **environment.commit(),
        **environment.mlflow_tags(),
        "overrides": " ".join(map(shown, overrides)),
        **_data_tags(data),
    }
    tags |= {**_weights_tags(built.weights), "output_dir": str(output_dir)}
    tags |= {} if branched_from is None else {"branched_from": branched_from}
    tags |= {} if trial is None else trial_tags(trial)
    tracker = Tracker(
        find_location(cfg.tracking.uri, cfg.tracking.root),
        output_dir,
        experiment=cfg.tracking.experiment,
        name=cfg.tracking.run_name or name_of(cfg, overrides, flat, trial),
        tags=tags,
        resume=resumed_run,
        began_in=None if resumed_run is None or resume is None else resume.began_in,
    )
    if trial is None:
        describe_run(tracker.name, lambda: tracker.run_id)
    else:
        trial.set_user_attr(RUN_KEY, tracker.key)
        trial.set_user_attr("output_dir", str(output_dir.resolve()))
    (output_dir / CONFIG_FILE).write_text(yaml.safe_dump(config, sort_keys=False))
    facts = {"versions": environment.versions(), "hardware": environment.hardware()}
    (output_dir / ENVIRONMENT_FILE).write_text(json.dumps(facts, indent=2))
    counts = data.counts()
    params = flat | {"finetune_stages": str(built.spec.depth), "input_size": str(built.spec.size)}
    params |= _count_params(counts)
    # MLflow does not allow a parameter to change, and a resumed run may have more epochs. Its run may also be gone.
    tracker.log_params(params, unless_there=resumed_run is not None)
    tracker.log_dataset(
        name=data.source,
        digest=data.fingerprint[:36],
        source=cfg.data.reader.arguments.get("root", data.source),
        profile=json.dumps({"counts": counts, "split": data.split.kind, "classes": list(data.samples.classes)}),
    )
    # Also a retry: the attempt that was killed may have ended before it wrote this.
    if resumed_run is not None and trial is not None and (trial.was_pruned or HAS_PAUSED in trial.user_attrs):
        tracker.set_tags({"paused": "false"} | ({"pruned": "false"} if trial.was_pruned else {}))
    if changed := _changed_tags(cfg, output_dir, resume, resumes_run=resumed_run is not None):
        tracker.set_tags(changed)
    tracker.set_tags({"precision": precision, **{f"hardware.{k}": v for k, v in environment.hardware().items()}})
    tracker.log_note(what_it_is(cfg, data, built))
    tracker.log_artifact(CONFIG_FILE)
    tracker.log_artifact(ENVIRONMENT_FILE)
    return tracker


def what_it_is(cfg: TrainConfig, data: EyesDataModule, built: BuiltModel) -> str:
    """One or two sentences that begin the description of a run."""
    spec, counts = built.spec, {split: sum(by_class.values()) for split, by_class in data.counts().items()}
    stages = len(built.classifier.network.stages)
    images = ", ".join(f"{n:,} {split}" for split, n in counts.items())
    split = split_title(data.split.kind, data.samples.classes)
    what = (
        f"**{cfg.model.name}**: {spec.depth} of {stages} stages and the head train, from {built.weights.kind} weights. "
        f"Images: {data.source}, {spec.size} pixels, split by {split} ({images})."
    )
    return f"{what} **Synthetic eyes say nothing about real ones.**" if data.source == "synthetic" else what


def name_of(cfg: TrainConfig, overrides: list[str], flat: Mapping[str, str], trial: TrialHandle | None) -> str:
    """The name of the MLflow run; `flat` is the flattened config."""
    if trial is None:
        return run_name(cfg.model.name, overrides, flat)
    return trial_name(trial.number, redact_config(dict(trial.params)), flat)


def _count_params(counts: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """The number of images of each split and class; of many classes, of each split."""
    params = {}
    for split, by_class in counts.items():
        if len(by_class) > MOST_CLASSES:
            params[f"count.{split}"] = str(sum(by_class.values()))
        else:
            keys = class_keys(list(by_class))
            params |= {f"count.{split}.{key}": str(n) for key, n in zip(keys, by_class.values(), strict=True)}
    return params


def _run_to_resume(
    cfg: TrainConfig, output_dir: Path, resume: ResumePoint | None, trial: TrialHandle | None
) -> tuple[tuple[str, str | None] | None, str | None]:
    """Key and run id of the MLflow run to resume, or None; and the id of the run from which a new one branches off."""
    run = None if resume is None else resume.checkpoint.get("run")
    if resume is not None and run and run.get("experiment") in {None, cfg.tracking.experiment}:
        reached = 0 if trial is not None or is_requeued() else last_epoch(resume.began_in)
        if reached <= resume.progress.epochs:
            return (run["key"], run["run_id"]), None
        log.warning(
            "the run of this checkpoint has already continued to epoch %d; a new run starts from the checkpoint",
            reached,
        )
        return None, str(run["run_id"] or run["key"])
    # An earlier attempt may have ended before its first checkpoint.
    key = trial.user_attrs.get(RUN_KEY) if trial is not None else earlier_run_key(output_dir)
    return ((key, None) if key else None), None


def _data_tags(data: EyesDataModule) -> dict[str, str]:
    tags = {
        "data.source": data.source,
        "data.fingerprint": data.fingerprint,
        "split.kind": data.split.kind,
        "split.fingerprint": data.split.fingerprint,
    }
    return tags | ({"synthetic": "true"} if data.source == "synthetic" else {})


def _weights_tags(weights: Weights) -> dict[str, str]:
    tags = {"weights.kind": weights.kind, "weights.source": weights.source, "weights.sha256": weights.sha256}
    if weights.fallback:
        tags["weights.warning"] = "no pre-trained weights at hand: random weights"
    return tags


def _changed_tags(
    cfg: TrainConfig, output_dir: Path, resume: ResumePoint | None, *, resumes_run: bool
) -> dict[str, str]:
    """Tags that say what is different since the run was resumed."""
    tags = {}
    if resume is not None:
        epochs = resume.progress.epochs
        tags = {f"resumed.{c.key}": f"{c.before} until epoch {epochs}, then {c.now}" for c in resume.changes}
    if resumes_run:
        tags |= {"mlflow.runName": cfg.tracking.run_name} if cfg.tracking.run_name else {}
        tags["output_dir"] = str(output_dir)
    return tags


@contextmanager
def finish_on_error(
    tracker: Tracker | None,
    cfg: TrainConfig,
    module: Classifier,
    data: EyesDataModule,
    stop: StopSignal,
    *,
    trial: TrialHandle | None = None,
) -> Iterator[None]:
    """If the block raises, finish the MLflow run with the status that fits the exception.

    Raises:
        UserError: a value was not finite, or the memory was exhausted.
    """

    def finish(status: str) -> None:
        if tracker is not None:
            tracker.close(status, cfg.tracking.close_timeout)
            link_run(tracker, trial)

    try:
        yield
    except StoppedBySignalError:
        finish("KILLED")
        raise
    except NotFiniteError as error:
        finish("FAILED")
        raise not_finite_error(error, data) from error
    except TrialPruned:
        if tracker is not None:
            tracker.set_tags({"pruned": "true"})
        finish("FINISHED")
        raise
    except TrialPaused:
        if tracker is not None:
            tracker.set_tags({"paused": "true"})
        finish("SCHEDULED")
        raise
    except TrialLost:
        if tracker is not None:
            tracker.abandon()  # another worker continues the run
        raise
    except BaseException as error:
        finish("KILLED" if stop.number else "FAILED")
        if is_out_of_memory(error):
            raise out_of_memory_error(error, cfg, module.global_step) from error
        raise


def link_run(tracker: Tracker, trial: TrialHandle | None) -> None:
    """Store the address of the run with its trial, if the tracking store has been reached; see RUN_ADDRESS."""
    if trial is None or tracker.run_id is None or tracker.experiment_id is None:
        return
    address = run_address(tracker.location, tracker.experiment_id, tracker.run_id)
    if trial.user_attrs.get(RUN_ADDRESS) != address:
        with suppress(TrialLost):  # the trial says so itself where that matters
            trial.set_user_attr(RUN_ADDRESS, address)


def trial_tags(trial: TrialHandle) -> dict[str, str]:
    """Tags that link a run to its trial; MLflow shows it below the run of the study."""
    tags = {"study.name": trial.study_name, "trial.number": str(trial.number)}
    if parent := trial.study_attrs.get(PARENT_RUN):
        tags["mlflow.parentRunId"] = parent
    return tags


def checkpoint_origin(tracker: Tracker, cfg: TrainConfig, data: EyesDataModule) -> dict[str, Any]:
    """The keys by which a checkpoint names its run, config and data; `run_id` is None until MLflow was reached."""
    run = {
        "key": tracker.key,
        "began_in": str(tracker.began_in.resolve()),
        "experiment": cfg.tracking.experiment,
        "run_id": tracker.run_id,
    }
    identity = {"run": run, "config": checkpoint_config(cfg), "data": data_identity(data)}
    classes = data.samples.classes
    return identity | ({"classes": list(classes)} if len(classes) > 2 else {})


def flatten(config: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys, with all values as text; a class in a key has a name that MLflow accepts."""
    if not isinstance(config, Mapping):
        return {prefix: str(config)}
    flat: dict[str, str] = {}
    for name, value in config.items():
        key = key_of(str(name))
        flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat
