"""What mattered in a study: computed once, for its report's tables, its figure and its file."""

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

FEWEST_TRIALS = 5
N_TREES = 64  # as Optuna's
MOST_DEPTH = 8  # deeper trees cost minutes on a thousand trials, and say the same of single parameters


class Importance(NamedTuple):
    """A parameter's share of the variance that parameters explain one by one, with its 95% interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Importances:
    """Of the parameters that some trials have in common.

    Args:
        among: which trials.
        n_trials: how many of them finished.
        shares: by parameter, the largest first; they sum to 1.
    """

    among: str
    n_trials: int
    shares: dict[str, Importance]

    def to_json(self) -> dict[str, Any]:
        shares = {name: one._asdict() for name, one in self.shares.items()}
        return {"among": self.among, "n_trials": self.n_trials, "shares": shares}


def importances(study: optuna.Study, *, seed: int = 0) -> list[Importances]:
    """fANOVA of the first objective (F. Hutter et al., ICML 2014), as Optuna has it, with its uncertainty.

    First of the parameters that all trials have; where some have further ones, then within each such branch. A forest
    is trees of which each is grown on a resample of the trials, so the spread of its trees is the interval of a
    bootstrap over trials.

    Trials that were pruned or failed have no value and do not count. Nothing is claimed where fewer than five trials
    finished, all have the same value, or fewer than two parameters varied.

    Args:
        study: Optuna's.
        seed: of the resampling; the same trials and seed give the same numbers.
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
    found = {among: _shares(members, seed) for among, members in groups.items()}
    return [Importances(among, len(groups[among]), shares) for among, shares in found.items() if shares]


def importance_figure(found: Sequence[Importances]) -> Figure:
    """The same numbers as bars, a panel for each group of trials."""
    from eyegender.plots.style import BLUE, INK, dress, new_figure, percent_axis, plain

    counts = [len(group.shares) for group in found]
    figure = new_figure(9.0, 1.2 + sum(0.8 + 0.35 * count for count in counts), "Importance, with 95% intervals")
    panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=counts).ravel()
    for axes, group in zip(panels, found, strict=True):
        dress(axes, title=f"{group.among} ({group.n_trials})", grid="x")
        names = [*reversed(group.shares)]
        values = np.array([group.shares[name] for name in names])
        axes.barh([plain(name) for name in names], values[:, 0], color=BLUE, height=0.6)
        reach = values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]
        axes.errorbar(values[:, 0], range(len(names)), xerr=reach, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
        axes.set_xlim(0.0, 1.0)
        percent_axis(axes.xaxis)
    return figure


def _shares(trials: Sequence[FrozenTrial], seed: int) -> dict[str, Importance]:
    """Empty where nothing can be claimed."""
    import optuna

    values = {trial.value for trial in trials}
    if len(trials) < FEWEST_TRIALS or len(values) < 2:
        return {}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would announce the study below
    alone = optuna.create_study()
    optuna.logging.set_verbosity(verbosity)
    alone.add_trials(trials)
    grown: list[dict[str, float]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shares that do not sum to 1 are experimental
        for tree in range(N_TREES):
            evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=1, max_depth=MOST_DEPTH, seed=seed + tree)
            try:
                explained = optuna.importance.get_param_importances(alone, evaluator=evaluator, normalize=False)
            except RuntimeError:  # a resample of equal values
                continue
            # Nothing explained is no share; Optuna would call it equal shares.
            if total := sum(explained.values()):
                grown.append({name: float(value / total) for name, value in explained.items()})
    varied = [name for name in (grown[0] if grown else ()) if len({trial.params[name] for trial in trials}) > 1]
    if len(grown) < N_TREES / 2 or len(varied) < 2:
        return {}
    found = {}
    for name in varied:
        shares = np.array([tree[name] for tree in grown])
        low, high = np.quantile(shares, (0.025, 0.975))
        found[name] = Importance(float(shares.mean()), float(low), float(high))
    return dict(sorted(found.items(), key=lambda item: (-item[1].share, item[0])))
