"""Samplers, pruners and objective values; with every private name of Optuna that the plugin uses.

All other modules use Optuna's public interface only. `tests/unit/optuna_study/test_private_names.py` names the versions
of Optuna for which the private names below hold.
"""

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Container, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import optuna
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.study._multi_objective import _get_pareto_front_trials_by_trials
from optuna.study._tell import _tell_with_warning
from optuna.trial import FrozenTrial, TrialState

from ._budget import completion_order, reports_of
from ._redaction import one_line
from ._trial import StudyError

if TYPE_CHECKING:
    from ._search_space._space import Space

# Samplers that go through a list on which all workers must agree: all workers use the same seed.
_SHARED_SEED = ("GridSampler", "QMCSampler")
_FINITE = ("GridSampler", "BruteForceSampler")
# Samplers that model only the parameters that every trial has.
_NO_CONDITIONS = ("GPSampler", "CmaEsSampler", "NSGAIISampler", "NSGAIIISampler", "QMCSampler")


# ---- private names of Optuna


def id_of(trial: FrozenTrial | optuna.Trial) -> int:
    """The id by which storages know the trial."""
    return int(trial._trial_id)


def identify(trial: FrozenTrial, number: int, trial_id: int) -> FrozenTrial:
    """The trial itself, with the number and id that the storage gave it."""
    trial.number, trial._trial_id = number, trial_id
    return trial


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """A value for this parameter; the public methods would need one call for each kind of distribution."""
    return trial._suggest(name, distribution)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (TypeError, ValueError):
        return False


def provide_trials(study: optuna.Study, trials: list[FrozenTrial]) -> None:
    """Give the sampler trials that were read already, so that it does not read them again."""
    study._thread_local.cached_all_trials = trials


class CachedTrials:
    """The trials of studies in Optuna's cache of a database, which no public method gives without sorting them all."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.engine = storage._backend.engine

    @staticmethod
    def are_in(storage: BaseStorage) -> bool:
        return isinstance(storage, _CachedStorage)

    def read(self, study_id: int, unchanged: Set[int], changed: Set[int]) -> dict[int, FrozenTrial]:
        """Read what may have changed; all trials by number.

        Args:
            unchanged: ids of open trials that need not be read again.
            changed: ids of those that were `unchanged` before and must be read.
        """
        if unchanged or changed:
            unfinished = self._storage._studies[study_id].unfinished_trial_ids
            unfinished -= unchanged
            unfinished |= changed
        self._storage._read_trials_from_remote_storage(study_id)
        return self._storage._studies[study_id].trials  # type: ignore[no-any-return]


def finish(study: optuna.Study, trial: optuna.Trial, state: TrialState, values: Sequence[float] | None = None) -> None:
    """`study.tell`, without its last read of the trial, which costs several queries and only callbacks need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        _tell_with_warning(study, trial, None if values is None else list(values), state)


def pareto_front(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """The Pareto front of exactly these trials; `study.best_trials` chooses the feasible ones in its own way."""
    return list(_get_pareto_front_trials_by_trials(trials, directions))


def delegating_storage(name: str, base: type) -> Any:
    """A storage class that passes every operation that `base` does not define on to its attribute `inner`."""
    operations = {operation: _delegated(operation) for operation in STORAGE_OPERATIONS if not hasattr(base, operation)}
    return type(name, (base, BaseStorage), operations)


STORAGE_OPERATIONS = [
    name for name in vars(BaseStorage) if not name.startswith("_") and callable(getattr(BaseStorage, name))
]


def _delegated(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.inner, name)(*args, **kwargs)

    return call


# ---- samplers


def class_name(config: Mapping[str, Any]) -> str:
    return str(config.get("_target_", "")).rpartition(".")[2]


def is_finite(config: Mapping[str, Any]) -> bool:
    """Whether the sampler tries every combination once, so that a failed trial uses budget."""
    return class_name(config) in _FINITE


def samples_one_at_a_time(config: Mapping[str, Any]) -> bool:
    """Whether two workers that sample at the same time could get the same values."""
    return class_name(config) in (*_SHARED_SEED, *_FINITE)


def random_parameters_message(config: Mapping[str, Any], space: "Space") -> str | None:
    """A line that names the parameters that this sampler samples at random instead of modelling them, or None."""
    name = class_name(config)
    if name not in _NO_CONDITIONS or config.get("independent_sampler") is not None:
        return None
    branches = [
        (branch, len(parameter.branches) > 1)
        for parameter in space.parameters
        for branch in parameter.branches
        if branch.domain is not None and not branch.domain.distribution.single()
    ]
    conditional = [branch.name for branch, several in branches if several or branch.condition.requirements]
    # Optuna's CMA-ES models numbers only.
    categorical = [
        branch.name
        for branch, _ in branches
        if name == "CmaEsSampler" and isinstance(branch.domain.distribution, CategoricalDistribution)  # type: ignore[union-attr]
    ]
    if not (conditional or categorical):
        return None
    kinds = " and ".join(["conditional"] * bool(conditional) + ["categorical"] * bool(categorical))
    names = ", ".join(dict.fromkeys((*conditional, *categorical)))
    others = "tpe or brute_force" if conditional else "tpe, gp, nsgaii, nsgaiii, qmc or brute_force"
    return f"{name} samples {kinds} parameters at random: {names}; hydra/sweeper/sampler={others} models them"


def build_sampler(config: Mapping[str, Any], space: "Space", worker: int) -> BaseSampler:
    """The sampler of one worker.

    Args:
        config: `hydra.sweeper.sampler`.
        space: search space; the grid sampler takes its values from it.
        worker: index of the worker over the whole life of the study. It is added to the seed, so that no two workers
            sample alike and a later launch does not repeat the values of the first.

    Raises:
        StudyError: it cannot be built.
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


# ---- pruners


def build_pruner(config: Mapping[str, Any], trials: Sequence[FrozenTrial] = ()) -> BasePruner:
    """The pruner of one worker.

    Args:
        config: `hydra.sweeper.pruner`.
        trials: trials of the study; a resource of "auto" is taken from the first of them that completed.

    Raises:
        StudyError: it cannot be built.
    """
    arguments = {key: value for key, value in config.items() if value is not None}
    if (length := _first_length(trials)) is not None:
        # As Optuna does it, but with the same result in a worker that starts later and finds more complete trials.
        if class_name(config) == "HyperbandPruner" and arguments.get("max_resource", "auto") == "auto":
            arguments["max_resource"] = length + 1
        if class_name(config) == "SuccessiveHalvingPruner" and arguments.get("min_resource", "auto") == "auto":
            arguments["min_resource"] = max(length // 100, 1)
    if class_name(config) == "PatientPruner":
        inner = config.get("wrapped_pruner")
        arguments["wrapped_pruner"] = build_pruner(inner) if isinstance(inner, Mapping) else None
    built: BasePruner = _build(arguments, BasePruner, "pruner")
    return built


def has_rungs(pruner: BasePruner) -> bool:
    """Whether the pruner decides at fixed steps and stores each decision with the trial."""
    return isinstance(pruner, optuna.pruners.SuccessiveHalvingPruner | optuna.pruners.HyperbandPruner)


def should_prune(study: optuna.Study, storage: BaseStorage, trial: FrozenTrial, pruned_objective: int) -> bool:
    """Ask the study's pruner, with one objective or several.

    Args:
        study: study whose pruner decides.
        storage: storage of the study.
        trial: the trial with its reports.
        pruned_objective: index of the objective whose values were reported.
    """
    if len(study.directions) == 1:
        return study.pruner.prune(study, trial)
    view = _SINGLE_OBJECTIVE(storage, study.directions[pruned_objective])
    return study.pruner.prune(optuna.Study(study.study_name, view, study.sampler, study.pruner), _with_reports(trial))


class _SingleObjective:
    """A storage as a pruner has to see it: one direction, and the reports on that objective.

    Optuna refuses reports in a study of several objectives, and samplers could not handle them. So they are stored in
    an attribute of ours and appear as reports only here.
    """

    def __init__(self, inner: BaseStorage, direction: StudyDirection) -> None:
        self.inner = inner
        self.direction = direction

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:  # noqa: ARG002
        return [self.direction]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return _with_reports(self.inner.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [_with_reports(trial) for trial in self.inner.get_all_trials(study_id, deepcopy, states)]


_SINGLE_OBJECTIVE: Any = delegating_storage("SingleObjectiveStorage", _SingleObjective)


def _with_reports(trial: FrozenTrial) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.intermediate_values = reports_of(trial)
    return shown


def _first_length(trials: Sequence[FrozenTrial]) -> int | None:
    """The last step of the first trial that completed with reports."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and reports_of(trial)]
    return max(reports_of(min(complete, key=completion_order))) if complete else None


def _build(arguments: dict[str, Any], kind: Any, what: str) -> Any:
    from hydra.utils import instantiate

    target = str(arguments.pop("_target_", ""))
    own = getattr(optuna.samplers if what == "sampler" else optuna.pruners, target.rpartition(".")[2], None)
    with warnings.catch_warnings():
        # The user chose it by name, so warnings that it is experimental or deprecated would not help.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            if own is not None and target.startswith("optuna."):
                # A config may override only the class and still contain the fields of the former choice.
                known = inspect.signature(own).parameters
                built = own(**{key: _nested(value) for key, value in arguments.items() if key in known})
            else:
                built = instantiate({"_target_": target, **arguments})
        except Exception as error:
            raise StudyError(f"the {what} {target} cannot be built: {one_line(error)}") from None
    if not isinstance(built, kind):
        got = target or "nothing"
        raise StudyError(f"hydra.sweeper.{what} must be one of Optuna's {what}s or a subclass, got {got}")
    return built


def _nested(value: Any) -> Any:
    """Build an argument that is itself a config with `_target_`, such as independent_sampler or crossover."""
    from hydra.utils import get_method, instantiate

    if isinstance(value, Mapping) and "_target_" in value:
        return instantiate(dict(value))
    if isinstance(value, str) and "." in value and value.replace(".", "").replace("_", "").isalnum():
        return get_method(value) if not value.replace(".", "").isdigit() else value
    return value


# ---- values


def read_objectives(value: Any, objectives: int) -> tuple[list[float] | None, str | None]:
    """The objective values that a task returned, or why they are none.

    Args:
        value: a number, or a list, tuple, array or other sequence with one number for each objective.
        objectives: number of objectives of the study.
    """
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    parts = [value]
    if not isinstance(value, str | bytes | Mapping | Set):
        try:
            parts = list(value)
        except TypeError:  # a number, or an array without dimensions
            parts = [value]
    if len(parts) != objectives:
        return None, f"the task must return {objectives} value(s), got {len(parts)}"
    values = []
    for part in parts:
        try:
            number = float(part)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # PyTorch raises the last one
            return None, f"the task must return a number per objective, got {str(part)[:80]!r}"
        if math.isnan(number):
            return None, f"the objective is {number}, which no study can compare"
        values.append(number)
    return values, None
