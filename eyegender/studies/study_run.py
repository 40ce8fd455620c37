"""The study's own MLflow run: parent of its trials' runs, and home of its report."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from eyegender.tracking.errors import StoreFaultError, first_line
from eyegender.tracking.location import find_location

if TYPE_CHECKING:
    from eyegender.tracking.writer import Store
    from hydra_plugins.optuna_study import StudyHandle, StudyStatus, TrialRow

log = logging.getLogger("eyegender")

PARENT_RUN, PARENT_KEY = "mlflow_parent_run", "mlflow_parent_key"


class StudyRun:
    """Callback of the sweeper.

    Args:
        experiment: MLflow experiment of the trials' runs.
        uri: tracking URI, or None for the default.
        root: folder of the embedded store, or None for the default.
        test_winner: measure the winner on the test part once, at the end; a front of several objectives has none.
    """

    def __init__(self, experiment: str, uri: str | None, root: str | None, *, test_winner: bool = True) -> None:
        self.experiment, self.uri, self.root, self.test_winner = experiment, uri, root, test_winner

    def check_config(self, config: DictConfig) -> None:
        """Refuse at once what every trial with these values would refuse."""
        from eyegender.core.schema import parse
        from eyegender.data.readers import check_source

        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        parsed = parse(own)
        parsed.model.check_weights_file()
        check_source(parsed.data)

    def on_study_start(self, study: StudyHandle) -> None:
        """Create the parent run before the first trial; a store that is away costs the nesting, not the sweep.

        Raises:
            StoreFaultError: the store will not take anything before somebody repairs it.
        """
        from eyegender.tracking.check import check_store

        check_store(find_location(self.uri, self.root))
        notes = study.user_attrs
        key = notes.get(PARENT_KEY) or uuid.uuid4().hex
        study.set_user_attr(PARENT_KEY, key)
        try:
            store = self._store(study, key)
        except StoreFaultError:
            raise
        except Exception as error:
            log.warning("tracking: no parent run for study %s (%s)", study.name, first_line(error))
            return
        if notes.get(PARENT_RUN) != store.run_id:
            study.set_user_attr(PARENT_RUN, store.run_id)

    def on_study_end(self, study: StudyHandle, status: StudyStatus) -> None:
        """Test the winner, write the report, and log both."""
        from eyegender.studies.report import write_report
        from eyegender.studies.ties import tie_sentence, tied
        from eyegender.studies.winner import again, folder_of, test_winner

        folder = Path(study.sweep_dir)
        # A sweep that gave up has not looked far enough for its best trial to be worth the one test.
        chosen = len(status.directions) == 1 and not status.gave_up
        winner = _first_whole(status, folder) if chosen else None
        tested: dict[str, float] = {}
        if winner is not None and self.test_winner:
            tested = test_winner(folder_of(winner, folder), self.uri, self.root, tied=winner in tied(status))
        report = write_report(study.load(), status, folder, winner=winner, tested=tested)
        if winner is not None:
            tie = tie_sentence(status) if winner in tied(status) else None
            who = f"Tie      {tie}; trial {winner.number}" if tie else f"Winner   trial {winner.number}"
            print(f"{who}, {_percent(tested)}")
            print(f"Again    {again(folder_of(winner, folder))}")
        print(f"Report   {report}")
        self._log(study, status, folder, winner, tested)

    def _log(
        self, study: StudyHandle, status: StudyStatus, folder: Path, winner: TrialRow | None, tested: dict[str, float]
    ) -> None:
        from eyegender.studies.ties import tied
        from eyegender.tracking.tracker import now_ms

        store = self._store(study, study.user_attrs[PARENT_KEY])
        counts = status.counts
        values: dict[str, float] = {
            "trials.complete": counts.complete,
            "trials.pruned": counts.pruned,
            "trials.failed": counts.failed,
        }
        if status.best and len(status.directions) == 1:
            values["best_value"] = status.best[0].values[0]
            best = {f"best.{name}": str(value) for name, value in status.best[0].params.items()}
            # Parameters cannot change when the study goes on; tags can.
            best["best.trial"] = str(status.best[0].number)
            best["best.tied"] = " ".join(str(trial.number) for trial in tied(status)) or "no"
            store.apply({"op": "tags", "values": best})
        if winner is not None and tested:
            store.apply({"op": "tags", "values": {"tested.trial": str(winner.number)}})
        store.apply({"op": "metrics", "values": {**values, **tested}, "step": counts.finished, "time": now_ms()})
        for path in sorted((folder / "report").rglob("*")):
            if path.is_file():
                inside = path.parent.relative_to(folder / "report")
                to = str(inside) if inside.parts else None
                store.apply({"op": "artifact", "path": str(path.relative_to(folder)), "to": to})
        store.apply({"op": "end", "status": "FAILED" if status.gave_up else "FINISHED", "time": now_ms()})

    def _store(self, study: StudyHandle, key: str) -> Store:
        from eyegender.tracking.writer import Store
        from eyegender.tracking.tracker import now_ms

        location = find_location(self.uri, self.root)
        folder = Path(study.sweep_dir)
        folder.mkdir(parents=True, exist_ok=True)
        store = Store(location.uri, location.artifacts, folder)
        tags: dict[str, Any] = {"study.name": study.name, "study.storage": study.storage, "study": "parent"}
        store.apply(
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
        return store


def _first_whole(status: StudyStatus, sweep_dir: Path) -> TrialRow | None:
    """The best trial whose files are all there; those that are passed over, and that none is left, are said."""
    from eyegender.studies.winner import folder_of, what_is_missing

    if status.no_best is not None:
        print(f"Winner   none, {status.no_best}")
    for trial in status.best:
        missing = what_is_missing(folder_of(trial, sweep_dir))
        if missing is None:
            return trial
        print(f"Skipped  trial {trial.number}, which cannot be tested: {missing}")
    if status.best:
        print("Winner   not tested, because no complete trial has all its files")
    return None


def _percent(tested: dict[str, float]) -> str:
    return f"tested once: test accuracy {100 * tested['test/accuracy']:.2f}%" if tested else "not tested"
