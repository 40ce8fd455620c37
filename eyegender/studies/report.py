"""The report of a study: best trials, importances, failures, and Optuna's plots."""

from __future__ import annotations

import csv
import json
import logging
import math
import warnings
from typing import TYPE_CHECKING, Any

from eyegender.studies.importance import importance_figure, importances
from eyegender.studies.ties import tie_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import optuna
    from matplotlib.figure import Figure

    from eyegender.studies.importance import Importances
    from eyegender.studies.selection_bias import SelectionBias
    from hydra_plugins.optuna_study import StudyStatus, TrialRow

SHOWN = 10


def write_report(
    study: optuna.Study,
    status: StudyStatus,
    folder: Path,
    *,
    winner: TrialRow | None = None,
    tested: dict[str, float] | None = None,
    bias: SelectionBias | None = None,
) -> Path:
    """Write `report.md`, `trials.csv`, `best.json` and `figures/` into `folder`/report; returns the path of the page.

    Args:
        study: study to report.
        status: its state.
        folder: folder of the sweep, or an output folder.
        winner: trial that was evaluated on the test set, if any.
        tested: its test metrics.
        bias: what the best value owes to luck, if it is known.
    """
    report = folder / "report"
    (report / "figures").mkdir(parents=True, exist_ok=True)
    found = importances(study)
    own = [("importances", importance_figure(found))] if found else []
    figures = [
        name for name, figure in (*own, *plots(study, status)) if _saved(figure, report / "figures" / f"{name}.png")
    ]
    if not found:  # an earlier report may have left this figure
        (report / "figures" / "importances.png").unlink(missing_ok=True)
    with (report / "trials.csv").open("w", newline="", encoding="utf-8") as file:
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
        "importances": [group.to_json() for group in found],
        "test": tested or {},
        "selection_bias": None if bias is None else bias.to_json(),
    }
    if winner is not None and tested:
        content["tested_trial"] = winner.number
    (report / "best.json").write_text(json.dumps(content, indent=2, default=str))
    page = report / "report.md"
    lines = _lines(status, found, figures, _best_lines(status, winner, tested or {}, bias))
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return page


def plots(study: optuna.Study, status: StudyStatus) -> Iterator[tuple[str, Figure]]:
    """Optuna's plots by name, without those for which the study has too few trials."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import optuna
    from optuna.visualization import matplotlib as visualization

    first: dict[str, Any] = {}
    if len(status.directions) > 1:
        first = {"target": lambda trial: trial.values[0], "target_name": "first objective"}
    functions: dict[str, Callable[[], Any]] = {
        "history": lambda: visualization.plot_optimization_history(study, **first),
        "parallel_coordinates": lambda: visualization.plot_parallel_coordinate(study, **first),
        "slice": lambda: visualization.plot_slice(study, **first),
    }
    if len(status.directions) > 1:
        functions["pareto_front"] = lambda: visualization.plot_pareto_front(study)
    else:
        functions["intermediate_values"] = lambda: visualization.plot_intermediate_values(study)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # it warns about depths such as "0" and "all"
    for name, draw in functions.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls these plots experimental
            try:
                axes = draw()
            except (ValueError, RuntimeError, IndexError):
                plt.close("all")
                continue
            figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
            figure.set_size_inches(9, 5)
            if name != "slice":  # its colour bar would cover the slices
                figure.tight_layout()
            yield name, figure
            plt.close("all")


def _saved(figure: Figure, path: Path) -> bool:
    figure.savefig(path, dpi=120, bbox_inches="tight")
    return path.exists()


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
    if found:
        lines += [
            "The importance of a parameter is its share of the variance that single parameters explain (fANOVA), over "
            "the ranges that were searched. The intervals come from resampling the trials. Pruned trials are ignored."
        ]
    else:
        lines.append(
            "Importance is unknown: five finished trials with different values and two varying parameters are required."
        )
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
