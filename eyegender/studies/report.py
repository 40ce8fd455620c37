"""The report of a study: a page, the same tables as Markdown, all trials as CSV, the best as JSON, and pictures."""

from __future__ import annotations

import csv
import json
import math
from typing import TYPE_CHECKING, Any

from eyegender.studies.importance import importance_figure, importances
from eyegender.studies.reports.content import IMPORTANCE_MEANING, IMPORTANCE_UNKNOWN, SHOWN, Findings, report_page
from eyegender.studies.reports.drawn_trials import metric_names
from eyegender.studies.reports.page import write_page
from eyegender.studies.ties import tie_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import optuna

    from eyegender.studies.importance import Importances
    from eyegender.studies.selection_bias import SelectionBias
    from hydra_plugins.optuna_study import StudyStatus, TrialRow

REPORT_FOLDER, PAGE_FILE = "report", "report.html"


def write_report(
    study: optuna.Study,
    status: StudyStatus,
    folder: Path,
    *,
    winner: TrialRow | None = None,
    tested: dict[str, float] | None = None,
    bias: SelectionBias | None = None,
) -> Path:
    """Write the report into `folder`/report; returns the path of the page, `report.html`.

    `report.md` has the same tables, `trials.csv` all trials, `best.json` the best ones, and `figures/` the pictures.

    Args:
        study: study to report.
        status: its state.
        folder: folder of the sweep, or an output folder.
        winner: trial that was evaluated on the test set, if any.
        tested: its test metrics.
        bias: what the best value owes to luck, if it is known.
    """
    report = folder / REPORT_FOLDER
    (report / "figures").mkdir(parents=True, exist_ok=True)
    for old in (report / "figures").glob("*.png"):  # of an earlier report
        old.unlink()
    found = Findings(winner, tested or {}, bias, importances(study))
    page = report_page(study, status, metric_names(study, status), found, folder)
    figures = write_page(page, report / PAGE_FILE, report / "figures")
    if found.importances:
        figures = [*save_importances(found.importances, report / "figures"), *figures]
    _write_trials(status, report / "trials.csv")
    _write_best(status, found, report / "best.json")
    lines = _lines(status, found.importances, figures, _best_lines(status, winner, found.tested, bias))
    (report / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return report / PAGE_FILE


def save_importances(found: Sequence[Importances], folder: Path) -> list[str]:
    importance_figure(found).savefig(folder / "importances.png", dpi=120, bbox_inches="tight")
    return ["importances"]


def _write_trials(status: StudyStatus, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        names = sorted({name for trial in status.trials for name in trial.params})
        writer = csv.writer(file)
        writer.writerow(["trial", "state", "values", *names, "epochs", "seconds", "feasible", "reason"])
        for trial in status.trials:
            values = " ".join(f"{value:.6g}" for value in trial.values)
            params = [trial.params.get(name, "") for name in names]
            seconds = "" if trial.seconds is None else f"{trial.seconds:.1f}"
            row = [trial.number, trial.state, values, *params, len(trial.reported), seconds]
            row += [trial.feasible if trial.state == "complete" else "", trial.reason or ""]
            writer.writerow(row)


def _write_best(status: StudyStatus, found: Findings, path: Path) -> None:
    # JSON has no infinity.
    best_values = [[v if math.isfinite(v) else str(v) for v in t.values] for t in status.best[:SHOWN]]
    best = [
        {"trial": t.number, "values": v, "params": dict(t.params)}
        for t, v in zip(status.best[:SHOWN], best_values, strict=True)
    ]
    content: dict[str, Any] = {
        "study": status.name,
        "best": best,
        "recommended": None if status.recommended is None else status.recommended.number,
        "importances": [group.to_json() for group in found.importances],
        "test": found.tested,
        "selection_bias": None if found.bias is None else found.bias.to_json(),
    }
    if found.winner is not None and found.tested:
        content["tested_trial"] = found.winner.number
    path.write_text(json.dumps(content, indent=2, default=str))


def _lines(status: StudyStatus, found: Sequence[Importances], figures: list[str], best: list[str]) -> list[str]:
    counts = status.counts
    lines = [
        f"# Study {status.name}",
        "",
        f"{counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed; "
        f"{'done' if status.complete else 'not done'}. Directions: {', '.join(status.directions)}.",
        "",
        "## Best trials" if len(status.directions) == 1 else "## Pareto front",
        "",
        "| trial | value | parameters |",
        "|---|---|---|",
    ]
    lines += best
    lines += ["", "## Parameter importance", ""]
    for group in found:
        lines += [f"Of {group.subset}, {group.n_trials} finished:", ""]
        lines += ["| parameter | importance | 95% interval |", "|---|---|---|"]
        lines += [
            f"| {name} | {one.share:.2f} | {one.low:.2f} to {one.high:.2f} |" for name, one in group.shares.items()
        ]
        lines.append("")
    lines.append(IMPORTANCE_MEANING if found else IMPORTANCE_UNKNOWN)
    if status.failures:
        lines += ["", "## Failures", "", "| trial | reason |", "|---|---|"]
        lines += [f"| {trial.number} | {trial.reason} |" for trial in status.failures]
    lines += ["", "## Figures", "", *(f"![{name}](figures/{name}.png)" for name in figures)]
    return lines


def _best_lines(
    status: StudyStatus, winner: TrialRow | None, tested: dict[str, float], bias: SelectionBias | None
) -> list[str]:
    """The rows of the best trials, and what is to be thought of them."""
    lines = []
    for trial in status.best[:SHOWN]:
        values = ", ".join(f"{value:.4f}" for value in trial.values)
        lines.append(f"| {trial.number} | {values} | {_params(trial.params)} |")
    if status.no_best is not None:
        lines += ["", f"{status.no_best.capitalize()}."]
    tie = tie_sentence(status)
    if status.recommended is not None and status.recommendation is not None:
        lines += ["", f"Trial {status.recommended.number} is recommended: {status.recommendation}."]
    if tie:
        lines += ["", f"{tie}. There is no evidence that one of them is better."]
    if bias is not None:
        lines += ["", *bias.sentences]
    if winner is not None and tested:
        if winner not in (status.winner, status.best[0]):
            subject = f"Trial {winner.number}, the best one whose files are complete,"
        elif winner != status.best[0]:
            subject = "The recommended trial"
        else:
            subject = f"Trial {winner.number}, the first of them," if tie else "The winner"
        lines += ["", f"{subject} was tested once: accuracy {100 * tested['test/accuracy']:.2f}%."]
        lines.append("It is the best of many trials on the validation set, so only the test accuracy is unbiased.")
    return lines


def _params(params: Any) -> str:
    return ", ".join(f"{k} = {v:.3g}" if isinstance(v, float) else f"{k} = {v}" for k, v in params.items())
