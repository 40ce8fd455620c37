"""A study's report: what was best, what mattered, what failed, with Optuna's plots."""

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
    from hydra_plugins.optuna_study import StudyStatus, TrialRow

SHOWN = 10


def write_report(
    study: optuna.Study,
    status: StudyStatus,
    folder: Path,
    *,
    winner: TrialRow | None = None,
    tested: dict[str, float] | None = None,
) -> Path:
    """Write `report/report.md`, `trials.csv`, `best.json` and `figures/` below `folder`; returns the page's path.

    Args:
        winner: the trial that was tested, if any.
        tested: its test/ metrics.
    """
    report = folder / "report"
    (report / "figures").mkdir(parents=True, exist_ok=True)
    mattered = importances(study)
    drawn = [("importances", importance_figure(mattered))] if mattered else []
    figures = [
        name for name, figure in (*drawn, *plots(study, status)) if _saved(figure, report / "figures" / f"{name}.png")
    ]
    if not mattered:  # what an earlier report of fewer trials may have left
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
    # JSON knows no infinity.
    reached = [[v if math.isfinite(v) else str(v) for v in t.values] for t in status.best[:SHOWN]]
    best = [
        {"trial": t.number, "values": v, "params": dict(t.params)}
        for t, v in zip(status.best[:SHOWN], reached, strict=True)
    ]
    content: dict[str, Any] = {
        "study": status.name,
        "best": best,
        "importances": [group.to_json() for group in mattered],
        "test": tested or {},
    }
    if winner is not None and tested:
        content["tested_trial"] = winner.number
    (report / "best.json").write_text(json.dumps(content, indent=2, default=str))
    page = report / "report.md"
    page.write_text("\n".join(_lines(status, mattered, figures, winner, tested or {})) + "\n", encoding="utf-8")
    return page


def plots(study: optuna.Study, status: StudyStatus) -> Iterator[tuple[str, Figure]]:
    """Optuna's plots by name; those that this study has too few trials for are left out."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import optuna
    from optuna.visualization import matplotlib as drawn

    first: dict[str, Any] = {}
    if len(status.directions) > 1:
        first = {"target": lambda trial: trial.values[0], "target_name": "first objective"}
    wanted: dict[str, Callable[[], Any]] = {
        "history": lambda: drawn.plot_optimization_history(study, **first),
        "parallel_coordinates": lambda: drawn.plot_parallel_coordinate(study, **first),
        "slice": lambda: drawn.plot_slice(study, **first),
    }
    if len(status.directions) > 1:
        wanted["pareto_front"] = lambda: drawn.plot_pareto_front(study)
    else:
        wanted["intermediate_values"] = lambda: drawn.plot_intermediate_values(study)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # it remarks on depths such as "0" and "all"
    for name, draw in wanted.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls these plots experimental
            try:
                axes = draw()
            except (ValueError, RuntimeError, IndexError):
                plt.close("all")
                continue
            figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
            figure.set_size_inches(9, 5)
            if name != "slice":  # whose colour bar would be laid over the slices
                figure.tight_layout()
            yield name, figure
            plt.close("all")


def _saved(figure: Figure, path: Path) -> bool:
    figure.savefig(path, dpi=120, bbox_inches="tight")
    return path.exists()


def _lines(
    status: StudyStatus,
    mattered: Sequence[Importances],
    figures: list[str],
    winner: TrialRow | None,
    tested: dict[str, float],
) -> list[str]:
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
    for trial in status.best[:SHOWN]:
        values = ", ".join(f"{value:.4f}" for value in trial.values)
        lines.append(f"| {trial.number} | {values} | {_params(trial.params)} |")
    if status.no_best is not None:
        lines += ["", f"{status.no_best.capitalize()}."]
    tie = tie_sentence(status)
    if tie:
        lines += ["", f"{tie}. Nothing here says which of them is better."]
    if winner is not None and tested:
        if winner != status.best[0]:
            who = f"Trial {winner.number}, the best one that is whole,"
        else:
            who = f"Trial {winner.number}, the first of them," if tie else "The winner"
        lines += ["", f"{who} was tested once: accuracy {100 * tested['test/accuracy']:.2f}%."]
        lines.append("It was picked as the best of many on the validation part, so only the test figure is unbiased.")
    lines += ["", "## What mattered", ""]
    for group in mattered:
        lines += [f"Among {group.among} that finished ({group.n_trials}):", ""]
        lines += ["| parameter | importance | 95% interval |", "|---|---|---|"]
        lines += [
            f"| {name} | {one.share:.2f} | {one.low:.2f} to {one.high:.2f} |" for name, one in group.shares.items()
        ]
        lines.append("")
    if mattered:
        lines += [
            "Importance is a parameter's share of the variance that parameters explain one by one (fANOVA), over the "
            "ranges that were searched. Intervals come from resampling the trials. Pruned trials have no value."
        ]
    else:
        lines.append(
            "Nothing can be said: it takes five finished trials whose values differ, and two parameters that vary."
        )
    if status.failures:
        lines += ["", "## Failures", "", "| trial | reason |", "|---|---|"]
        lines += [f"| {trial.number} | {trial.reason} |" for trial in status.failures]
    lines += ["", "## Figures", "", *(f"![{name}](figures/{name}.png)" for name in figures)]
    return lines


def _params(params: Any) -> str:
    return ", ".join(f"{k} = {v:.3g}" if isinstance(v, float) else f"{k} = {v}" for k, v in params.items())
