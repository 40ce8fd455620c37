"""`eyegender.compare`: compares tracked runs on one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eyegender.api.promoting import run_id_of
from eyegender.api.running import ConfigOf
from eyegender.api.tables import lines, table
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from eyegender.api.overrides import Overrides
    from eyegender.api.sweeping import SweepResult
    from eyegender.api.training import TrainResult
    from eyegender.comparison.comparison import Comparison


@dataclass(frozen=True)
class ComparisonResult:
    """A comparison of runs.

    Args:
        part: `test` or `val`: the images from which all numbers are.
        metrics: one row per run, the most accurate of each group first, with the run's id as index; each metric has the
            columns NAME, NAME_low and NAME_high, its 95% interval.
        sentences: what the comparison found: the best run of each group, warnings, the tested differences, and which
            runs are not compared.
        run_id: MLflow's id of the run that contains the page.
        output_dir: folder with comparison.html, comparison.md and figures/.
        comparison: everything that the page shows.
    """

    part: str
    metrics: pd.DataFrame = field(repr=False)
    sentences: tuple[str, ...]
    run_id: str
    output_dir: Path
    comparison: Comparison = field(repr=False)

    @property
    def page(self) -> Path:
        """The page, which contains its figures and can be sent as one file."""
        return self.output_dir / "comparison.html"

    def _repr_html_(self) -> str:
        shown = ["run", "group", *(name for name in ("accuracy", "auroc") if name in self.metrics)]
        rows = [[row[name] for name in shown] for row in self.metrics.to_dict("records")]
        return table(shown, rows) + lines((*self.sentences, f"Page {self.page}"))


def compare(
    runs: Iterable[str | TrainResult] | SweepResult | None = None, overrides: Overrides = None
) -> ComparisonResult:
    """Compare runs as `eyegender compare` does: intervals, tests, a page, and the same page in MLflow.

    Args:
        runs: results of `train` or ids of runs; the result of a sweep, for all its trials, which are compared on the
            validation images unless all were tested; None for the best run of each backbone on each split.
        overrides: further keys of the command, such as `{"latency": False}` or `{"tracking.root": FOLDER}`.

    Raises:
        UserError: no run can be compared, with the line that the command would print.
    """
    from eyegender.api.sweeping import SweepResult

    with ConfigOf("compare", ("tracking",)).opened() as config:
        given: dict[str, Any] = {}
        if isinstance(runs, SweepResult):
            given = {"study": runs.study_name, "pick": "all"}
        elif runs is not None and (isinstance(runs, str | Mapping) or not isinstance(runs, Iterable)):
            raise UserError(f"runs must be a list of runs, got {runs!r}; write it as [RUN, RUN]")
        elif runs is not None:
            given = {"runs": [run_id_of(run) for run in runs]}
        cfg = config.composed([*config.lines(given), *config.lines(overrides)])
        from eyegender.compare import compare_from_config
        from eyegender.comparison.workflow import ComparisonResult as ComparedRuns

        if not isinstance(cfg.study, str | None):
            raise UserError(f"study must be the name of one study here, got {cfg.study}; use the command for several")
        result = compare_from_config(cfg)
        assert isinstance(result, ComparedRuns)
        comparison = result.comparison
        sentences = (*comparison.headlines, *comparison.warnings, *(pair.sentence for pair in comparison.pairs))
        sentences += comparison.left_out
        folder = result.folder.absolute()
        return ComparisonResult(comparison.part, _frame(comparison), sentences, result.run_id, folder, comparison)


def _frame(comparison: Comparison) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for run in comparison.runs:
        row: dict[str, Any] = {"run_id": run.record.run_id, "run": run.short_name, "group": run.group}
        for name, interval in run.metrics.items():
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows).set_index("run_id")
