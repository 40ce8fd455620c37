"""From a run in the store to the record that the comparison works on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from eyegender.comparison.run_record import ModelFacts, RunRecord
from eyegender.core.errors import UserError
from eyegender.models.model_costs import costs
from eyegender.models.saved_network import SPEC_FILE, WEIGHTS_FILE, parse_spec
from eyegender.tracking.run_artifacts import (
    NETWORK,
    fetched,
    logged_model,
    lost_predictions,
    network_files,
    read_predictions,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

    from eyegender.comparison.selection import Chosen
    from eyegender.tracking.tracking_store import TrackingStore

log = logging.getLogger(__name__)

# The curves that the comparison draws; each costs a request.
CURVES = ("train/accuracy", "val/accuracy")


def load_record(store: TrackingStore, chosen: Chosen, by: str, *, latency: bool = True) -> RunRecord:
    """One run with its predictions, curves and costs; what the run did not store is None or empty.

    Args:
        store: where the run is.
        chosen: which one, and from how many.
        by: the validation metric that it was picked by, where it was.
        latency: measure it on this machine.
    """
    run = chosen.run
    predictions = read_predictions(store, run.info.run_id)
    return RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        history=load_history(store, run.info.run_id),
        predictions=predictions,
        tags=dict(run.data.tags),
        facts=_facts(store, run, latency=latency),
        trials=chosen.trials,
        chosen_by=by,
        lost=lost_predictions(run) if predictions is None else None,
    )


def load_history(store: TrackingStore, run_id: str) -> list[dict[str, float]]:
    """One mapping per epoch, the first first."""
    epochs: dict[int, dict[str, float]] = {}
    for name in CURVES:
        for point in store.client.get_metric_history(run_id, name):
            epochs.setdefault(int(point.step), {})[name] = float(point.value)
    return [epochs[step] for step in sorted(epochs)]


def _facts(store: TrackingStore, run: Run, *, latency: bool) -> ModelFacts:
    seconds = run.data.metrics.get("fit_seconds")
    model = logged_model(store, run.info.run_id)
    if model is None:
        return ModelFacts(training_seconds=seconds)
    size = network_files(store, model).get(WEIGHTS_FILE)
    try:
        with fetched(store, model, f"{NETWORK}/{SPEC_FILE}") as path:
            spec = parse_spec(path.read_text(encoding="utf-8"))
        parameters, multiply_adds, milliseconds = costs(spec, latency=latency)
    except (UserError, ValueError, TypeError, KeyError) as error:
        log.warning("run %s: its model cannot be measured (%s)", run.info.run_id, error)
        return ModelFacts(size_bytes=size, training_seconds=seconds)
    return ModelFacts(parameters, multiply_adds, size, milliseconds, seconds)
