"""The live display of a sweep in a terminal: its running trials, its counts, its best trial and the time left."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from .._budget import MAX_RESOURCE, first_number, reports_of
from .._history._follower import Follower
from ._lines import duration_text, params_text, values_text

# Running trials that have a row; of the others, the display shows the number.
_MOST_ROWS = 8
_FRAMES = 2  # per second


@dataclass(frozen=True)
class RunningRow:
    """A running trial; `since` is the time at which this process saw it start, `total` its last step, if known."""

    number: int
    step: int
    total: int | None
    value: float | None
    params: str
    since: float


def has_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and not sys.stdout.closed and sys.stdout.isatty()


class RunningRows(Follower):
    """The rows of the running trials after each read of the study: `RunningRows()(trials)`.

    A trial's last step is what its task has stored or, if it stored nothing, the last step of the longest complete
    trial. Reads that the command makes anyway are all that this costs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._since: dict[int, float] = {}
        self._keys: dict[str, None] = {}
        self._forget()

    def _forget(self) -> None:
        self._longest: int | None = None

    def _see(self, trial: FrozenTrial) -> None:
        self._keys |= dict.fromkeys(name.partition(" (")[0] for name in trial.params)
        if trial.state == TrialState.COMPLETE and (reports := reports_of(trial)):
            self._longest = max(*reports, self._longest or 0)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the trials so far have set."""
        return tuple(self._keys)

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[RunningRow]:
        self.update(trials)
        running = [trial for trial in self.open.values() if trial.state == TrialState.RUNNING]
        now = time.monotonic()
        self._since = {trial.number: self._since.get(trial.number, now) for trial in running}
        return [self._row(trial) for trial in running]

    def _row(self, trial: FrozenTrial) -> RunningRow:
        reports = reports_of(trial)
        step = max(reports, default=0)
        params = {name.partition(" (")[0]: value for name, value in trial.params.items()}
        return RunningRow(
            number=first_number(trial),
            step=step,
            total=trial.system_attrs.get(MAX_RESOURCE) or self._longest,
            value=reports.get(step),
            params=params_text(params, self._keys),
            since=self._since[trial.number],
        )


class LiveStudy:
    """Shows the running trials and one line about the study below everything that is printed.

    While it is shown, `sys.stdout` and, if it is a terminal, `sys.stderr` print above it.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._rows: Sequence[RunningRow] = ()
        self._state = ""
        self._console = Console()
        self._live = Live(
            console=self._console, get_renderable=self._draw, transient=True, refresh_per_second=_FRAMES,
            redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
        )  # fmt: skip

    def start(self) -> None:
        self._live.start(refresh=True)

    def stop(self) -> None:
        self._live.stop()

    def update(self, rows: Sequence[RunningRow], state: str) -> None:
        """Show these running trials, and this line about the study, from the next frame on."""
        self._rows, self._state = rows, state

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.constrain import Constrain
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(width=12)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        rows, now = self._rows, time.monotonic()
        for row in rows[:_MOST_ROWS]:
            step = f"step {row.step}" if row.total is None else f"step {row.step}/{row.total}"
            table.add_row(
                f"trial {row.number}",
                ProgressBar(total=row.total, completed=row.step, width=12, pulse=row.total is None),
                step,
                "" if row.value is None else values_text([row.value]),
                Text(row.params),
                duration_text(now - row.since),
            )
        more = [Text(f"and {len(rows) - _MOST_ROWS} more running trials")] if len(rows) > _MOST_ROWS else []
        # Room for the ^C that terminals echo: in a new line, it would hide from rich where the display is.
        return Constrain(Group(table, *more, Text(self._state)), self._console.width - 3)
