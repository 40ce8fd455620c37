"""Importance of the parameters of a study, computed once for the tables, the figure and the file of its report."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import optuna
    from matplotlib.figure import Figure
    from optuna.trial import FrozenTrial

MIN_TRIALS = 5
N_TREES = 64  # Optuna's default
MAX_DEPTH = 8  # deeper trees take minutes for a thousand trials and give the same result for single parameters


class Importance(NamedTuple):
    """A parameter's share of the variance that single parameters explain, with its 95% interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Importances:
    """Importances of the parameters that a group of trials has in common.

    Args:
        subset: name of the group of trials.
        n_trials: number of finished trials in the group.
        shares: importance by parameter, the largest first; the shares sum to 1.
    """

    subset: str
    n_trials: int
    shares: dict[str, Importance]

    def to_json(self) -> dict[str, Any]:
        shares = {name: one._asdict() for name, one in self.shares.items()}
        return {"among": self.subset, "n_trials": self.n_trials, "shares": shares}


def importances(study: optuna.Study, *, seed: int = 0) -> list[Importances]:
    """Optuna's fANOVA of the first objective (F. Hutter et al., ICML 2014), with intervals.

    The first result covers the parameters that all trials have. If some trials have further parameters, there is one
    more result for each such group of trials. Each tree of the forest is grown on a resample of the trials, so the
    spread of the trees is the interval of a bootstrap over trials.

    Pruned and failed trials have no value and are ignored. There is no result if fewer than five trials finished, if
    all of them have the same value, or if fewer than two parameters varied.

    Args:
        study: study to analyse.
        seed: seed of the resampling; equal trials and seeds give equal numbers.
    """
    from optuna.trial import TrialState, create_trial

    trials = [
        create_trial(value=trial.values[0], params=trial.params, distributions=trial.distributions)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if math.isfinite(trial.values[0])
    ]
    if not trials:
        return []
    names = {frozenset(trial.params) for trial in trials}
    common = frozenset.intersection(*names)
    groups = {"all trials": trials}
    for branch in sorted(names - {common}, key=sorted):
        members = [trial for trial in trials if branch == frozenset(trial.params)]
        groups[f"trials with {', '.join(sorted(branch - common))}"] = members
    shares = {name: _shares(members, seed) for name, members in groups.items()}
    return [Importances(name, len(groups[name]), share) for name, share in shares.items() if share]


def importance_figure(groups: Sequence[Importances]) -> Figure:
    """Importances as bars, with one panel for each group of trials."""
    from eyegender.plots.style import BLUE, INK, new_figure, percent_axis, plain, style_axes

    counts = [len(group.shares) for group in groups]
    figure = new_figure(9.0, 1.2 + sum(0.8 + 0.35 * count for count in counts), "Importance, with 95% intervals")
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=counts).ravel()
    for axes, group in zip(panels, groups, strict=True):
        style_axes(axes, title=f"{group.subset} ({group.n_trials})", grid="x")
        names = [*reversed(group.shares)]
        values = np.array([group.shares[name] for name in names])
        axes.barh([plain(name) for name in names], values[:, 0], color=BLUE, height=0.6)
        reach = values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]
        axes.errorbar(values[:, 0], range(len(names)), xerr=reach, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
        axes.set_xlim(0.0, 1.0)
        percent_axis(axes.xaxis)
    return figure


def _shares(trials: Sequence[FrozenTrial], seed: int) -> dict[str, Importance]:
    """Importances of the parameters that varied; empty if there are too few trials, values or parameters."""
    import optuna

    values = {trial.value for trial in trials}
    if len(trials) < MIN_TRIALS or len(values) < 2:
        return {}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would log that the study below was created
    copy = optuna.create_study()
    optuna.logging.set_verbosity(verbosity)
    copy.add_trials(trials)
    by_tree: list[dict[str, float]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shares that do not sum to 1 are experimental
        for tree in range(N_TREES):
            evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=1, max_depth=MAX_DEPTH, seed=seed + tree)
            try:
                explained = optuna.importance.get_param_importances(copy, evaluator=evaluator, normalize=False)
            except RuntimeError:  # all values of the resample are equal
                continue
            # If nothing is explained, there are no shares; Optuna would return equal shares.
            if total := sum(explained.values()):
                by_tree.append({name: float(value / total) for name, value in explained.items()})
    varied = [name for name in (by_tree[0] if by_tree else ()) if len({trial.params[name] for trial in trials}) > 1]
    if len(by_tree) < N_TREES / 2 or len(varied) < 2:
        return {}
    found = {}
    for name in varied:
        shares = np.array([tree[name] for tree in by_tree])
        low, high = np.quantile(shares, (0.025, 0.975))
        found[name] = Importance(float(shares.mean()), float(low), float(high))
    return dict(sorted(found.items(), key=lambda item: (-item[1].share, item[0])))
