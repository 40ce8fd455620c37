"""The description of a study's MLflow run in Markdown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from eyegender.tracking.run_names import short_keys, short_value

if TYPE_CHECKING:
    from pathlib import Path

    from eyegender.studies.selection_bias import SelectionBias
    from eyegender.tracking.writer import RunWriter
    from hydra_plugins.optuna_study import StudyHandle, StudyStatus, TrialRow

SHOWN = 5


def what_it_searches(study: StudyHandle) -> str:
    """One sentence, and the range of each key."""
    goals = " and ".join(direction.removesuffix("imize") + "imum" for direction in study.directions)
    ranges = "\n".join(f"- `{key}`: {value}" for key, value in study.definition.items())
    return f"Study **{study.name}**, which searches the {goals}.\n\n{ranges}"


def what_it_found(
    writer: RunWriter,
    study: StudyHandle,
    status: StudyStatus,
    *,
    tested: tuple[TrialRow, Path, float] | None,
    bias: SelectionBias | None = None,
) -> str:
    """The result on the test set, the counts, the best trials with links to their runs, and the report.

    Args:
        writer: writer of the study's run.
        study: the study.
        status: its state.
        tested: the trial that was tested, with its folder and its accuracy.
        bias: what the best value owes to luck, if it is known.
    """
    from eyegender.tracking.notes import RUN

    counts, runs, lines = status.counts, _runs_of_trials(writer), []
    if tested is not None:
        trial, folder, accuracy = tested
        result = _with_interval(folder) or f"**{100 * accuracy:.1f}%**"
        lines.append(f"{_link(trial, runs, f'Trial {trial.number}')} was tested once: accuracy {result}.")
    if bias is not None:
        lines.append(" ".join(bias.sentences))
    if status.no_best is not None:
        lines.append(f"No best trial: {status.no_best}.")
    lines.append(
        f"{counts.complete} complete trials, {counts.pruned} pruned, {counts.failed} failed. "
        f"[Report]({RUN}/artifacts/report.html)"
    )
    keys = list(dict.fromkeys(key for trial in status.best[:SHOWN] for key in trial.params))
    short = short_keys(keys)
    if status.best:
        head = ["trial", "value" if len(status.directions) == 1 else "values", *(short[key] for key in keys)]
        rows = [f"| {' | '.join(head)} |", f"|{'--:|' * len(head)}"]
        for trial in status.best[:SHOWN]:
            cells = [_link(trial, runs, str(trial.number)), " ".join(f"{value:.4f}" for value in trial.values)]
            cells += [short_value(trial.params[key]) if key in trial.params else "-" for key in keys]
            rows.append(f"| {' | '.join(cells)} |")
        lines.append("\n".join(rows))
    return "\n\n".join([*lines, what_it_searches(study)])


def add_model_of_winner(writer: RunWriter, winner: TrialRow) -> None:
    """Make the model of the winner an output of the study's run, too, if it was logged.

    MLflow's pages for GenAI list every run without a model among evaluation runs.
    """
    from mlflow.entities import LoggedModelOutput

    run_id = _runs_of_trials(writer).get(winner.number)
    if run_id is None or writer.run_id is None:
        return
    models = writer.client.search_logged_models([str(writer.experiment_id)], f"source_run_id = '{run_id}'")
    ready = [model.model_id for model in models if str(model.status) == "READY"]
    outputs = writer.client.get_run(writer.run_id).outputs
    known = {output.model_id for output in outputs.model_outputs} if outputs else set()
    if ready and ready[0] not in known:
        writer.client.log_outputs(writer.run_id, [LoggedModelOutput(ready[0], step=0)])


def _runs_of_trials(writer: RunWriter) -> dict[int, str]:
    """The ids of the runs below the study's by the number of their trial."""
    query = f"tags.`mlflow.parentRunId` = '{writer.run_id}'"
    found: dict[int, str] = {}
    token = None
    while True:
        page = writer.client.search_runs([str(writer.experiment_id)], query, max_results=1000, page_token=token)
        for run in page:
            if (number := run.data.tags.get("trial.number", "")).isdigit():
                found.setdefault(int(number), run.info.run_id)
        if not (token := page.token):
            return found


def _link(trial: TrialRow, runs: dict[int, str], text: str) -> str:
    from eyegender.tracking.notes import RUNS

    return f"[{text}]({RUNS}/{runs[trial.number]})" if trial.number in runs else text


def _with_interval(folder: Path) -> str | None:
    """The accuracy of a tested trial with its interval, from the predictions in its folder; None without them."""
    from eyegender.tracking.notes import accuracy_text
    from eyegender.tracking.predictions import PREDICTIONS_FILE, Predictions

    try:
        table = json.loads((folder / PREDICTIONS_FILE).read_text(encoding="utf-8"))
        facts = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except OSError:
        return None
    columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    return accuracy_text(Predictions.from_columns(columns), list(facts["data"]["counts"]["test"]))
