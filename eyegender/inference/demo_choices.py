"""Which models the demo page offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.comparison.selection import is_training
from eyegender.core.errors import UserError
from eyegender.inference.demo_page import Choice
from eyegender.tracking.run_artifacts import logged_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Run

    from eyegender.tracking.tracking_store import TrackingStore

MOST_RUNS = 20


def find_choices(store: TrackingStore, experiment: str, models: Sequence[str] | None) -> list[Choice]:
    """The models that were asked for; else every registered alias, and the newest finished runs with a model.

    Raises:
        UserError: there is none.
    """
    if models is not None:
        return [Choice(reference, reference) for reference in models]
    choices = [
        Choice(f"models:/{model.name}@{alias}", f"{model.name}@{alias} (version {version})")
        for model in store.client.search_registered_models()
        for alias, version in sorted(model.aliases.items())
    ]
    found = store.search([store.experiment_id(experiment)], "attributes.status = 'FINISHED'")
    for run in found:
        if len(choices) >= MOST_RUNS:
            break
        if is_training(run) and logged_model(store, run.info.run_id) is not None:
            choices.append(Choice(f"runs:/{run.info.run_id}", _title(run)))
    if not choices:
        raise UserError(f"experiment {experiment!r} in {store.name} has no finished run with a model; train first")
    return choices


def _title(run: Run) -> str:
    accuracy = run.data.metrics.get("test/accuracy")
    told = f", {100 * accuracy:.1f}% on its test part" if accuracy is not None else ""
    return f"{run.data.params['model.name']} {run.info.run_id[:8]}{told}"
