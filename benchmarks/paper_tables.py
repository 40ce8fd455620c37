"""The tables of docs/paper.md, computed from docs/results.

Print them: python -m benchmarks.paper_tables
Write them into the page: python -m benchmarks.paper_tables --write
"""

from __future__ import annotations

import argparse
import re
from itertools import combinations, groupby
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measuring import table
from benchmarks.paper_results import RESULTS, load, load_studies
from eyegender.comparison.paper import PAPER
from eyegender.comparison.significance import PairedRuns, corrected_p_values, format_p, mcnemar
from eyegender.models.intervals import bootstrap_differences, bootstrap_interval

if TYPE_CHECKING:
    from benchmarks.paper_results import Result

PAGE = Path(__file__).parents[1] / "docs/paper.md"


def tables(results: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that the page gives each table."""
    found = load(results)
    protocols = {name: list(runs) for name, runs in groupby(found, key=lambda run: run.protocol)}
    made = {"claimed": _claimed(), "runs": _runs(found), "versions": _versions(found)}
    for name, runs in protocols.items():
        made[name] = _accuracies(runs)
        made[f"{name} differences"] = _differences(runs)
    for name, (summary, trials) in load_studies(results).items():
        made[f"study {name}"] = _study(summary, trials)
    return made


def written(page: str, made: dict[str, str]) -> str:
    """The page with each table between its two marks replaced.

    Raises:
        KeyError: the page asks for a table that the results do not give.
    """
    mark = re.compile(r"(<!-- table: (?P<name>[^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return mark.sub(lambda found: f"{found[1]}\n{made[found['name']]}\n\n{found[3]}", page)


def _claimed() -> str:
    rows = [["network", "its Table 2", "elsewhere in the paper", "95% interval (ours)"]]
    for result in PAPER:
        elsewhere = ", ".join(f"{_percent(value)} ({place})" for place, value in result.elsewhere)
        rows.append([result.model, _percent(result.accuracy), elsewhere, _range(*result.interval[1:])])
    return table(rows)


def _accuracies(runs: list[Result]) -> str:
    rows = [
        [
            "network, initial weights",
            "size",
            "depth",
            "epochs",
            "seeds",
            "test images",
            "test accuracy",
            "95% interval, first seed",
        ]
    ]
    for name, group in groupby(runs, key=lambda run: run.name):
        same = list(group)
        first = same[0]
        values = [run.accuracy for run in same]
        shown = _percent(mean(values)) + (f" ({_range(min(values), max(values))})" if len(same) > 1 else "")
        interval = bootstrap_interval(
            "accuracy", first.predictions.labels, first.predictions.probabilities, first.predictions.persons
        )
        rows.append(
            [
                name,
                str(first.metrics["size"]),
                str(first.metrics["finetune_depth"]),
                str(first.metrics["epochs"]),
                str(len(same)),
                f"{len(first.predictions):,}",
                shown,
                _range(interval.low, interval.high),
            ]
        )
    return table(rows)


def _differences(runs: list[Result]) -> str:
    """McNemar's test on each pair of names with the first seed that both have, corrected for all the pairs."""
    pairs = []
    names = {name: {run.seed: run for run in group} for name, group in groupby(runs, key=lambda run: run.name)}
    for first, second in combinations(names, 2):
        shared = sorted(names[first].keys() & names[second].keys())
        if shared:
            one, other = names[first][shared[0]], names[second][shared[0]]
            if one.predictions.fingerprint == other.predictions.fingerprint:
                pairs.append((one, other))
    tests = [
        mcnemar(one.predictions.correct, other.predictions.correct, one.predictions.persons) for one, other in pairs
    ]
    corrected = [max(p, test.p_value) for p, test in zip(_corrected(pairs), tests, strict=True)]
    if len(tests) == 1:
        corrected = [tests[0].p_value]
    rows = [["pair", "difference, 95% interval", "discordant images", "corrected p"]]
    for (one, other), test, p in zip(pairs, tests, corrected, strict=True):
        right = one.predictions.correct[None], other.predictions.correct[None]
        gap = bootstrap_differences(*right, one.predictions.persons)[0]
        points = f"{100 * gap.value:+.1f} points ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
        discordant = str(test.only_first + test.only_second)
        rows.append([f"{one.name} against {other.name}", points, discordant, format_p(p)])
    return table(rows)


def _corrected(pairs: list[tuple[Result, Result]]) -> list[float]:
    """The pairs' p-values, corrected together; pairs on the same test images are one contest."""
    test_sets: list[PairedRuns] = []
    positions: list[list[int]] = []
    sets = {one.predictions.fingerprint for one, _ in pairs}
    for fingerprint in sorted(sets):
        positions.append([i for i, (one, _) in enumerate(pairs) if one.predictions.fingerprint == fingerprint])
        members = {run.folder: run for i in positions[-1] for run in pairs[i]}
        order = list(members)
        right = np.stack([run.predictions.correct for run in members.values()])
        persons = next(iter(members.values())).predictions.persons
        chosen = [(order.index(pairs[i][0].folder), order.index(pairs[i][1].folder)) for i in positions[-1]]
        test_sets.append(PairedRuns(right, persons, chosen))
    found = [0.0] * len(pairs)
    for indices, values in zip(positions, corrected_p_values(test_sets), strict=True):
        for i, value in zip(indices, values, strict=True):
            found[i] = value
    return found


def _runs(runs: list[Result]) -> str:
    """What each file came from; seconds are of training and validation."""
    rows = [["folder", "commit", "seed", "epochs", "best epoch", "validation", "test", "training"]]
    for run in runs:
        metrics = run.metrics
        rows.append(
            [
                f"`{run.folder}`",
                str(metrics["commit"].get("git.commit", "a wheel"))[:8],
                str(run.seed),
                str(metrics["epochs"]),
                f"{metrics['best_epoch']:.0f}",
                _percent(metrics["metrics"]["val/accuracy"]),
                _percent(run.accuracy),
                f"{metrics['fit_seconds'] / 60:.1f} min",
            ]
        )
    return table(rows)


def _versions(runs: list[Result]) -> str:
    """Machines and packages of all runs; more than one line where they differ."""
    found = sorted(
        {
            (
                f"{run.metrics['hardware']['cpu']}, {run.metrics['hardware']['cores']} cores, "
                f"GPU {run.metrics['hardware']['gpu']}",
                ", ".join(f"{name} {version}" for name, version in run.metrics["versions"].items()),
            )
            for run in runs
        }
    )
    return table([["machine", "versions"], *map(list, found)])


def _study(summary: dict, trials: list[dict[str, str]]) -> str:
    best = summary["best"][0]
    states = {state: sum(trial["state"] == state for trial in trials) for state in {t["state"] for t in trials}}
    rows = [["", ""]]
    rows.append(["trials", ", ".join(f"{count} {state.lower()}" for state, count in sorted(states.items()))])
    rows.append(["best validation accuracy", _percent(best["values"][0])])
    rows.append(["found with", ", ".join(f"{key}={_short(value)}" for key, value in best["params"].items())])
    if "accuracy" in summary["test"] or "test/accuracy" in summary["test"]:
        rows.append(
            ["its test accuracy", _percent(summary["test"].get("test/accuracy", summary["test"].get("accuracy")))]
        )
    for group in summary["importances"]:
        where = "" if group["among"] == "all trials" else f", {group['among']}"
        for key, one in group["shares"].items():
            share = f"{100 * one['share']:.0f}% ({100 * one['low']:.0f} to {100 * one['high']:.0f})"
            rows.append([f"importance of `{key}`{where}", share])
    return table(rows)


def _percent(value: float) -> str:
    return f"{100 * value:.2f}%"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/paper.md")
    options = parser.parse_args()
    made = tables()
    if options.write:
        PAGE.write_text(written(PAGE.read_text(), made))
    for name, text in made.items():
        print(f"{name}\n\n{text}\n")


if __name__ == "__main__":
    main()
