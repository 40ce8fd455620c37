"""What a study shows while it runs: one line per finished trial, and a summary at its end."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable

from optuna.trial import FrozenTrial

from ._budget import best_of, completion, count, first_number, is_failed, is_interrupted
from ._ledger import Ledger, Standing
from ._patient import outages_of
from ._secrets import one_line
from ._status import StudyStatus, TrialRow, trial_row

_LOOK_SECONDS = 0.5
_TAKE_OVER_EVERY = 4


def number_text(value: float) -> str:
    return f"{value:.6g}"


def values_text(values: Iterable[float]) -> str:
    return " ".join(number_text(value) for value in values) or "-"


def params_text(row: TrialRow) -> str:
    shown = (f"{key}={number_text(value) if isinstance(value, float) else value}" for key, value in row.params.items())
    return " ".join(shown) or "-"


def duration_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def say(line: str) -> None:
    # Not through logging: Hydra sends that to a trial's own file while one runs in this process.
    # A sweep must not end because nobody can read of it any more.
    with contextlib.suppress(OSError, ValueError):
        print(line, flush=True)


class Follower:
    """A thread of the command that prints each trial once as it ends, whichever worker ran it.

    It also looks after trials of dead workers, so that one is queued again while all other workers are busy.

    Args:
    on_failed: called with a trial that died too often.
    at_each_look: called twice a second.
    """

    def __init__(
        self,
        ledger: Ledger,
        directions: tuple[str, ...],
        on_failed: Callable[[TrialRow], None],
        at_each_look: Callable[[], None] = lambda: None,
    ) -> None:
        self.ledger = ledger
        self.on_failed = on_failed
        self.at_each_look = at_each_look
        self.directions = directions
        # What went wrong the last time it looked; None once it could look again.
        self.failure: Exception | None = None
        self._told: set[int] = {t.number for t in ledger.trials() if t.state.is_finished()}
        self._begun = time.monotonic()
        self._begun_with = count(ledger.trials()).finished
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="optuna-study-follower", daemon=True)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        try:
            self.look()
            if self.failure is not None:
                # Once more, where an error is seen: nobody may be left who would look.
                self._look_after_the_dead()
        except Exception:
            # What ended the sweep is the news, not that the storage is still away.
            if kind is None:
                raise

    def _run(self) -> None:
        outages, turn = outages_of(self.ledger.storage), 0
        due = time.monotonic() + _LOOK_SECONDS
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            outages.woke(due)
            turn += 1
            self.at_each_look()
            try:
                self.look()
                if turn % _TAKE_OVER_EVERY == 0:
                    self._look_after_the_dead()
                    self.failure = None
            except Exception as error:
                if self.failure is None:
                    secrets = self.ledger.store.spec.secrets
                    say(f"trials cannot be followed here ({one_line(error, secrets)}); the workers go on")
                self.failure = error
            due = time.monotonic() + _LOOK_SECONDS

    def _look_after_the_dead(self) -> None:
        with self.ledger.store.lock(self.ledger.study_name):
            self.ledger.take_over()
        for buried in self.ledger.take_buried():
            self.on_failed(trial_row(buried))

    def look(self) -> None:
        trials = self.ledger.trials()
        fresh = [trial for trial in trials if trial.state.is_finished() and trial.number not in self._told]
        for trial in sorted(fresh, key=completion):
            self._told.add(trial.number)
            # As of this trial's end, not of now: several may have ended since the last look.
            say(self._line(trial, [trial for trial in trials if trial.number in self._told]))

    def _line(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> str:
        row = trial_row(trial)
        done, wanted = count(trials).finished, self.ledger.rules.n_trials
        number = f"trial {row.number}" + (f" (attempt {row.attempt + 1})" if row.attempt else "")
        if is_interrupted(trial):
            return f"{number:<10} interrupted: {row.reason}; queued again"
        parts = [f"{number:<10} {row.state:<8} {values_text(row.values)}", params_text(row)]
        if row.state == "complete" and not row.feasible:
            parts.append("infeasible")
        if is_failed(trial):
            parts.append(f"{row.reason or 'no reason known'}")
        if len(self.directions) == 1:
            best = best_of(trials, self.directions[0] == "maximize")
            if best is not None and best.values:
                parts.append(f"best {number_text(best.values[0])} (trial {first_number(best)})")
        parts.append(f"{done}/{wanted}")
        left = self._time_left(done, wanted)
        if left is not None:
            parts.append(f"{duration_text(left)} left")
        return " | ".join(parts)

    def _time_left(self, done: int, wanted: int) -> float | None:
        fresh = done - self._begun_with
        if fresh <= 0 or done >= wanted:
            return None
        return (time.monotonic() - self._begun) / fresh * (wanted - done)


def summary(status: StudyStatus, standing: Standing, most: int = 5) -> list[str]:
    """The lines at a sweep's end."""
    counts = standing.counts
    parts = [f"{counts.complete} complete", f"{counts.pruned} pruned"]
    failed = counts.failed + counts.failed_before
    if failed:
        parts.append(f"{failed} failed")
    parts += [f"{getattr(counts, name)} {name}" for name in ("running", "waiting") if getattr(counts, name)]
    if counts.interrupted:
        parts.append(f"{counts.interrupted} interrupted attempts")
    lines = [f"study '{status.name}': {', '.join(parts)}, of {status.n_trials} trials ({status.storage})"]
    if standing.stopped:
        lines.append(f"stopped: {standing.stopped}")
    if status.best:
        lines.append("best trials:" if len(status.directions) == 1 else "Pareto front:")
        lines += [f"  trial {row.number}: {values_text(row.values)} | {params_text(row)}" for row in status.best[:most]]
    if status.no_best is not None:
        lines.append(status.no_best)
    failures = [row for row in status.trials if row.state == "failed"]
    if failures:
        lines.append("failures:")
        lines += [f"  trial {row.number}: {row.reason or 'no reason known'}" for row in failures[:most]]
        if len(failures) > most:
            lines.append(f"  and {len(failures) - most} more")
    return lines
