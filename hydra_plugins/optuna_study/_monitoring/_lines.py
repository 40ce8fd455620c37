"""The lines that a sweep prints."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from .._budget import Progress
    from .._status import StudyStatus


def print_line(line: str) -> None:
    # Not through logging, which Hydra sends to the file of a trial while one runs in this process.
    # A sweep must not end because its output is closed.
    with contextlib.suppress(OSError, ValueError):
        print(line, flush=True)


def values_text(values: Iterable[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values) or "-"


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Each key without its sections, unless another key would have the same name."""
    keys = list(dict.fromkeys(keys))
    count = Counter(key.rpartition(".")[2] for key in keys)
    return {key: last if count[last := key.rpartition(".")[2]] == 1 else key for key in keys}


def params_text(params: Mapping[str, Any], keys: Iterable[str] = ()) -> str:
    """A trial's parameters with three significant digits and short keys.

    Args:
        params: values by config key.
        keys: further keys of the study, from which the short ones must differ.
    """
    short = short_keys([*params, *keys])
    shown = (
        f"{short[k]}={value:.3g}" if isinstance(value, float) else f"{short[k]}={value}" for k, value in params.items()
    )
    return " ".join(shown) or "-"


def duration_text(seconds: float) -> str:
    """A duration such as `42 s`, `4 min 10 s` or `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_of_hour:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def trial_line(trial: "FrozenTrial", keys: Iterable[str] = ()) -> str:
    """The line of a trial that has ended, without the state of the study.

    Args:
        trial: the trial.
        keys: the keys of the study, as in `params_text`.
    """
    from .._budget import is_failed, is_interrupted
    from .._status import trial_row

    row = trial_row(trial)
    number = f"trial {row.number}" + (f" (attempt {row.attempt + 1})" if row.attempt else "")
    if is_interrupted(trial):
        return f"{number:<10} interrupted: {row.reason}; requeued"
    parts = [f"{number:<10} {row.state:<8} {values_text(row.values)}", params_text(row.params, keys)]
    if row.state == "complete" and not row.feasible:
        parts.append("infeasible")
    if is_failed(trial):
        parts.append(row.reason or "unknown reason")
    return " | ".join(parts)


def summary(status: "StudyStatus", progress: "Progress", most: int = 5) -> list[str]:
    """The lines at the end of a sweep, with at most this many best trials and failures."""
    counts = progress.counts
    parts = [f"{counts.complete} complete", f"{counts.pruned} pruned"]
    failed = counts.failed + counts.failed_before
    if failed:
        parts.append(f"{failed} failed")
    parts += [f"{getattr(counts, name)} {name}" for name in ("running", "paused", "waiting") if getattr(counts, name)]
    if counts.interrupted:
        parts.append(f"{counts.interrupted} interrupted attempts")
    target = "" if status.n_trials is None else f", of {status.n_trials} trials"
    lines = [f"study '{status.name}': {', '.join(parts)}{target} ({status.storage})"]
    if progress.stopped:
        lines.append(f"stopped: {progress.stopped}")
    if status.best:
        lines.append("best trials:" if len(status.directions) == 1 else "Pareto front:")
        keys = {key for row in status.trials for key in row.params}
        lines += [
            f"  trial {row.number}: {values_text(row.values)} | {params_text(row.params, keys)}"
            for row in status.best[:most]
        ]
        if status.recommended is not None and status.recommendation is not None:
            row = status.recommended
            lines.append(f"recommended, because {status.recommendation}:")
            lines.append(f"  trial {row.number}: {values_text(row.values)} | {params_text(row.params, keys)}")
    if status.no_best is not None:
        lines.append(status.no_best)
    failures = status.failures
    if failures:
        lines.append("failures:")
        lines += [f"  trial {row.number}: {row.reason or 'unknown reason'}" for row in failures[:most]]
        if len(failures) > most:
            lines.append(f"  and {len(failures) - most} more")
    return lines
