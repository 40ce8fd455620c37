"""Building the sampler and the pruner of one worker from their config."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from ._budget import completion
from ._errors import StudyError
from ._pruning import reports_of
from ._secrets import one_line
from ._space import Space

# Samplers that walk a list all workers must agree on: one seed for all, and draws one at a time.
_SHARED_SEED = ("GridSampler", "QMCSampler")
_FINITE = ("GridSampler", "BruteForceSampler")
# Samplers that see only the parameters that every trial has; the others are left to an independent sampler.
_WITHOUT_BRANCHES = ("GPSampler", "CmaEsSampler", "NSGAIISampler", "NSGAIIISampler", "QMCSampler")


def class_name(config: Mapping[str, Any]) -> str:
    return str(config.get("_target_", "")).rpartition(".")[2]


def is_finite(config: Mapping[str, Any]) -> bool:
    """Whether the sampler tries every combination once, so that a failed one takes up budget."""
    return class_name(config) in _FINITE


def draws_together(config: Mapping[str, Any]) -> bool:
    """Whether two workers that draw at once could draw the same."""
    return class_name(config) in (*_SHARED_SEED, *_FINITE)


def drawn_at_random(config: Mapping[str, Any], space: Space) -> str | None:
    """A line that names the parameters that this sampler leaves to chance; None where there are none."""
    name = class_name(config)
    if name not in _WITHOUT_BRANCHES or config.get("independent_sampler") is not None:
        return None
    branches = [
        (branch, len(parameter.branches) > 1)
        for parameter in space.parameters
        for branch in parameter.branches
        if branch.domain is not None and not branch.domain.distribution.single()
    ]
    conditional = [branch.name for branch, several in branches if several or branch.condition.requirements]
    # Optuna's CMA-ES knows numbers alone.
    listed = [
        branch.name
        for branch, _ in branches
        if name == "CmaEsSampler" and isinstance(branch.domain.distribution, CategoricalDistribution)  # type: ignore[union-attr]
    ]
    if not (conditional or listed):
        return None
    why = " and ".join(["of branches"] * bool(conditional) + ["of choices"] * bool(listed))
    names = ", ".join(dict.fromkeys((*conditional, *listed)))
    able = "tpe or brute_force" if conditional else "tpe, gp, nsgaii, nsgaiii, qmc or brute_force"
    return f"{name} draws parameters {why} at random: {names}; hydra/sweeper/sampler={able} takes them into account"


def build_sampler(config: Mapping[str, Any], space: Space, worker: int) -> BaseSampler:
    """Args:
    worker: index over the study's whole life; it is added to the seed, so that no two workers draw alike and a
        later launch does not repeat the draws of the first.
    """
    arguments = {key: value for key, value in config.items() if value is not None and key != "_partial_"}
    name = class_name(config)
    if name == "MOTPESampler":
        raise StudyError(
            "the motpe sampler was removed from Optuna; use hydra/sweeper/sampler=tpe, which takes several objectives"
        )
    seed = arguments.get("seed")
    if seed is not None and name not in _SHARED_SEED:
        arguments["seed"] = int(seed) + worker
    if name == "GridSampler":
        arguments["search_space"] = space.grid()
    if name == "NSGAIIISampler" and "reference_points" in arguments:
        import numpy as np

        arguments["reference_points"] = np.asarray(arguments["reference_points"], dtype=float)
    built: BaseSampler = _build(arguments, BaseSampler, "sampler")
    return built


def build_pruner(config: Mapping[str, Any], trials: Sequence[FrozenTrial] = ()) -> BasePruner:
    """Args:
    trials: of the study; a resource that is to be found out ("auto") is that of the first trial that completed.
    """
    arguments = {key: value for key, value in config.items() if value is not None}
    if (length := first_length(trials)) is not None:
        # As Optuna would, but the same in a worker that starts later and finds more trials complete.
        if class_name(config) == "HyperbandPruner" and arguments.get("max_resource", "auto") == "auto":
            arguments["max_resource"] = length + 1
        if class_name(config) == "SuccessiveHalvingPruner" and arguments.get("min_resource", "auto") == "auto":
            arguments["min_resource"] = max(length // 100, 1)
    if class_name(config) == "PatientPruner":
        inner = config.get("wrapped_pruner")
        arguments["wrapped_pruner"] = build_pruner(inner) if isinstance(inner, Mapping) else None
    built: BasePruner = _build(arguments, BasePruner, "pruner")
    return built


def first_length(trials: Sequence[FrozenTrial]) -> int | None:
    """The last step of the first trial that completed with reports."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and reports_of(trial)]
    return max(reports_of(min(complete, key=completion))) if complete else None


def _build(arguments: dict[str, Any], kind: Any, what: str) -> Any:
    from hydra.utils import instantiate

    target = str(arguments.pop("_target_", ""))
    own = getattr(optuna.samplers if what == "sampler" else optuna.pruners, target.rpartition(".")[2], None)
    with warnings.catch_warnings():
        # Chosen by name in a config: that some of them are called experimental, or arguments deprecated, is no news.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            if own is not None and target.startswith("optuna."):
                # A config may have overridden the class alone and still carry the fields of the one chosen before.
                known = inspect.signature(own).parameters
                arguments = {key: value for key, value in arguments.items() if key in known}
                nested = {key: _nested(value) for key, value in arguments.items()}
                built = own(**nested)
            else:
                built = instantiate({"_target_": target, **arguments})
        except Exception as error:
            raise StudyError(f"the {what} {target} cannot be built: {one_line(error)}") from None
    if not isinstance(built, kind):
        got = target or "nothing"
        raise StudyError(f"hydra.sweeper.{what} must be one of Optuna's {what}s or a subclass, got {got}")
    return built


def _nested(value: Any) -> Any:
    """An argument that is itself a config with `_target_`, such as independent_sampler or crossover, built."""
    from hydra.utils import get_method, instantiate

    if isinstance(value, Mapping) and "_target_" in value:
        return instantiate(dict(value))
    if isinstance(value, str) and "." in value and value.replace(".", "").replace("_", "").isalnum():
        return get_method(value) if not value.replace(".", "").isdigit() else value
    return value
