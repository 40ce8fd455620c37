"""The MLflow run of a study: the parent of its trials' runs, with the report as artifacts."""

from __future__ import annotations

import logging
import math
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from eyegender.core.errors import UserError
from eyegender.core.secrets import redact_config
from eyegender.studies.dashboard import name_metrics, write_notes
from eyegender.studies.study_note import add_model_of_winner, what_it_found, what_it_searches
from eyegender.tracking.errors import StoreFaultError, first_line
from eyegender.tracking.experiment_view import RUN_ADDRESS, run_address
from eyegender.tracking.location import find_location
from eyegender.tracking.names import SELECTION_BIAS, key_of
from eyegender.training import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eyegender.studies.selection_bias import SelectionBias
    from eyegender.tracking.journal import Entry
    from eyegender.tracking.writer import RunWriter
    from hydra_plugins.optuna_study import StudyHandle, StudyPlan, StudyPreview, StudyStatus, TrialRow

log = logging.getLogger("eyegender")

PARENT_RUN, PARENT_KEY = "mlflow_parent_run", "mlflow_parent_key"


class StudyRun:
    """A callback of the sweeper that tracks the study, tests the winner and writes the report.

    Args:
        experiment: MLflow experiment of the trials' runs.
        uri: tracking URI; None for the default.
        root: folder of the local store; None for the default.
        monitor: name of the objective; None leaves it without a name.
        objectives: names of several objectives, in order; None for `monitor` alone.
        test_winner: whether to evaluate the winner on the test set, once, at the end. A study with several objectives
            has no winner.
    """

    def __init__(
        self,
        experiment: str,
        uri: str | None,
        root: str | None,
        *,
        monitor: str | None = None,
        objectives: Sequence[str] | None = None,
        test_winner: bool = True,
    ) -> None:
        self.experiment, self.uri, self.root, self.test_winner = experiment, uri, root, test_winner
        self.metrics = [str(name) for name in objectives or ([] if monitor is None else [monitor])]

    def check_config(self, config: DictConfig) -> None:
        """Refuse a config at once that every trial would refuse, and a server that does not accept the login."""
        from eyegender.core.schema import parse
        from eyegender.data.readers import check_source
        from eyegender.models.libraries.network_names import check_label, fixed_names
        from eyegender.training.classes import with_classes

        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        parsed = parse(own)
        parsed.model.check_weights_file()
        # Torch is imported only for a name that may be wrong.
        if parsed.model.backbone.arguments or parsed.model.name not in fixed_names():
            from eyegender.training.build import backbone_class

            check_label(parsed.model.name, backbone_class(parsed.model))
        check_source(parsed.data, to_train=True)
        with_classes(parsed)  # checks the options that depend on the number of classes
        from eyegender.tracking.check import check_store_once

        check_store_once(find_location(self.uri, self.root))  # before the plan, which measures for seconds

    def plan_study(self, preview: StudyPreview) -> StudyPlan | None:
        """Choose which activations the sweep stores for all its trials, and say what it takes.

        Raises:
            UserError: the data or the network cannot be used in any trial.
        """
        from eyegender.studies.sweep_plan import plan_sweep
        from hydra_plugins.optuna_study import StudyPlan

        try:
            return plan_sweep(preview)
        except UserError:
            raise
        except Exception as error:  # the sweep can do without a plan
            log.debug("plan", exc_info=error)
            return StudyPlan(lines=[f"plan: none, because of an error ({first_line(error)})"])

    def on_study_start(self, study: StudyHandle) -> None:
        """Create the parent run before the first trial. If the store is unreachable, the trials' runs are not nested.

        Raises:
            StoreFaultError: the store must be repaired before it accepts anything.
        """
        from eyegender.tracking.check import check_store

        check_store(find_location(self.uri, self.root))
        name_metrics(study, self.metrics)
        attrs = study.user_attrs
        key = attrs.get(PARENT_KEY) or uuid.uuid4().hex
        study.set_user_attr(PARENT_KEY, key)
        try:
            writer = self._open_run(study, key)
        except StoreFaultError:
            raise
        except Exception as error:
            log.warning("tracking: no parent run for study %s (%s)", study.name, first_line(error))
            return
        if attrs.get(PARENT_RUN) != writer.run_id:
            study.set_user_attr(PARENT_RUN, writer.run_id)
        address = run_address(find_location(self.uri, self.root), str(writer.experiment_id), str(writer.run_id))
        if attrs.get(RUN_ADDRESS) != address:
            study.set_user_attr(RUN_ADDRESS, address)
        # Parameters cannot change, and a study may continue with other ones.
        definition = {key_of(key): value for key, value in study.definition.items()}
        try:
            writer.apply({"op": "params", "values": redact_config(definition), "unless_there": True})
            writer.apply({"op": "note", "text": what_it_searches(study)})
        except Exception as error:
            log.warning("tracking: the run of study %s is incomplete (%s)", study.name, first_line(error))

    def on_study_end(self, study: StudyHandle, status: StudyStatus) -> None:
        """Test the winner, write the report, and log both."""
        from eyegender.studies.report import write_report
        from eyegender.studies.selection_bias import selection_bias
        from eyegender.studies.ties import tie_sentence, tied
        from eyegender.studies.winner import evaluate_winner, retrain_command, trial_folder

        folder = Path(study.sweep_dir)
        # The best trial of a sweep that was aborted is not worth the only evaluation on the test set.
        has_winner = len(status.directions) == 1 and not status.aborted
        winner = _best_usable(status, folder) if has_winner else None
        tested: dict[str, float] = {}
        if winner is not None and self.test_winner:
            tested = evaluate_winner(trial_folder(winner, folder), self.uri, self.root, tied=winner in tied(status))
        loaded = study.load()
        bias = selection_bias(loaded, status, folder)
        report = write_report(loaded, status, folder, winner=winner, tested=tested, bias=bias)
        if winner is not None:
            tie = tie_sentence(status) if winner in tied(status) else None
            result = f"Tie      {tie}; trial {winner.number}" if tie else f"Winner   trial {winner.number}"
            print(f"{result}, {_percent(tested)}")
            if status.recommendation is not None and winner == status.recommended:
                print(f"         {status.recommendation}")
            for sentence in () if bias is None else bias.sentences:
                print(f"         {sentence}")
            print(f"Retrain  {retrain_command(trial_folder(winner, folder))}")
        print(f"Report   {report}")
        write_notes(study, status, folder, bias)
        self._log(study, status, folder, winner=winner, tested=tested, bias=bias)

    def _log(
        self,
        study: StudyHandle,
        status: StudyStatus,
        folder: Path,
        *,
        winner: TrialRow | None,
        tested: dict[str, float],
        bias: SelectionBias | None,
    ) -> None:
        from eyegender.studies.ties import tied
        from eyegender.studies.winner import trial_folder
        from eyegender.tracking.names import final_values
        from eyegender.tracking.tracker import now_ms

        writer = self._open_run(study, study.user_attrs[PARENT_KEY])
        counts = status.counts
        values: dict[str, float] = {
            "trials.complete": counts.complete,
            "trials.pruned": counts.pruned,
            "trials.failed": counts.failed,
        }
        if status.best and len(status.directions) == 1:
            values["best_value"] = status.best[0].values[0]
            best = {f"best.{name}": str(value) for name, value in status.best[0].params.items()}
            # These are tags, because parameters could not change when the study continues.
            best["best.trial"] = str(status.best[0].number)
            best["recommended.trial"] = "none" if status.recommended is None else str(status.recommended.number)
            if bias is not None:
                best[SELECTION_BIAS] = " ".join(bias.sentences)
            best["best.tied"] = " ".join(str(trial.number) for trial in tied(status)) or "no"
            writer.apply({"op": "tags", "values": best})
            writer.apply_metrics(list(_best_so_far(status)))
        if winner is not None and tested:
            writer.apply({"op": "tags", "values": {"tested.trial": str(winner.number)}})
        values |= final_values(tested)
        writer.apply({"op": "metrics", "values": values, "step": 0, "replaces": True, "time": now_ms()})
        for path in sorted((folder / "report").rglob("*")):
            if path.is_file():
                inside = path.parent.relative_to(folder / "report")
                to = str(inside) if inside.parts else None
                writer.apply({"op": "artifact", "path": str(path.relative_to(folder)), "to": to})
        if winner is not None:
            add_model_of_winner(writer, winner)
        subject = None
        if winner is not None and tested:
            subject = winner, trial_folder(winner, folder), tested["test/accuracy"]
        writer.apply({"op": "note", "text": what_it_found(writer, study, status, tested=subject, bias=bias)})
        if counts.pruned:
            self._end_paused_runs(writer)
        writer.apply({"op": "end", "status": "FAILED" if status.aborted else "FINISHED", "time": now_ms()})

    def _end_paused_runs(self, writer: RunWriter) -> None:
        """The trials that nothing continued are pruned now; their runs still say that they wait."""
        parent = f"tags.`mlflow.parentRunId` = '{writer.run_id}' and attributes.status = 'SCHEDULED'"
        for run in writer.client.search_runs([str(writer.experiment_id)], parent):
            for tag, value in (("paused", "false"), ("pruned", "true")):
                writer.client.set_tag(run.info.run_id, tag, value)
            writer.client.update_run(run.info.run_id, status="FINISHED")

    def _open_run(self, study: StudyHandle, key: str) -> RunWriter:
        from eyegender.tracking.tracker import now_ms
        from eyegender.tracking.writer import RunWriter

        location = find_location(self.uri, self.root)
        folder = Path(study.sweep_dir)
        folder.mkdir(parents=True, exist_ok=True)
        writer = RunWriter(location.uri, location.artifacts, folder)
        tags: dict[str, Any] = {"study.name": study.name, "study.storage": study.storage, "study": "parent"}
        tags |= {**environment.commit(), **environment.mlflow_tags()}
        writer.apply(
            {
                "op": "run",
                "key": key,
                "run_id": study.user_attrs.get(PARENT_RUN),
                "experiment": self.experiment,
                "name": f"study {study.name}",
                "tags": tags,
                "time": now_ms(),
            }
        )
        return writer


def _best_so_far(status: StudyStatus) -> Iterator[Entry]:
    """The best value after each complete trial, in the order in which they ended."""
    better = max if status.directions[0] == "maximize" else min
    best = None
    trials = [trial for trial in status.trials if trial.state == "complete" and trial.feasible and trial.ended]
    for step, trial in enumerate(sorted(trials, key=lambda trial: (trial.ended, trial.number)), start=1):
        best = trial.values[0] if best is None else better(best, trial.values[0])
        if math.isfinite(best) and trial.ended is not None:
            time = int(trial.ended.timestamp() * 1000)
            yield {"op": "metrics", "values": {"study/best_value": best}, "step": step, "time": time}


def _best_usable(status: StudyStatus, sweep_dir: Path) -> TrialRow | None:
    """The best trial whose files are complete. Prints which trials are skipped, and whether none is left."""
    from eyegender.studies.winner import find_damage, trial_folder

    if status.no_best is not None:
        print(f"Winner   none, {status.no_best}")
    first = [] if status.recommended is None else [status.recommended]
    for trial in [*first, *(trial for trial in status.best if trial not in first)]:
        damage = find_damage(trial_folder(trial, sweep_dir))
        if damage is None:
            return trial
        print(f"Skipped  trial {trial.number}, which cannot be tested: {damage}")
    if status.best:
        print("Winner   not tested, because the files of every complete trial are damaged or missing")
    return None


def _percent(tested: dict[str, float]) -> str:
    return f"tested once: test accuracy {100 * tested['test/accuracy']:.2f}%" if tested else "not tested"
