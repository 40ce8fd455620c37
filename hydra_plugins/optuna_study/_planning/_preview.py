"""What a callback learns about the trials of a study before the first of them, and the plan that it returns.

Importing this imports no Optuna.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    from .._job import Composer
    from .._launch import WorkerSpec
    from .._search_space._expected import Combination

# With more combinations of the keys that matter, hardly two trials have the same.
MOST_COMBINATIONS = 400
NO_PRUNER = "optuna.pruners.NopPruner"


@dataclass(frozen=True)
class ExpectedTrials:
    """Trials that have the same values of all keys that matter to a plan.

    Args:
        config: config of one of them.
        values: text of the value by key, for the swept keys that matter.
        number: expected number of such trials, 0 or more.
    """

    config: DictConfig
    values: Mapping[str, str]
    number: float


@dataclass(frozen=True)
class StudyPlan:
    """What a callback plans for a study.

    Args:
        user_attrs: attributes to store with the study, which every trial sees in `study_attrs`.
        lines: text to print before the first trial.
        order: indexes into `StudyPreview.expected`, in the order in which enqueued configurations and the points of a
            grid are to run.
    """

    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()
    order: Sequence[int] = ()


class StudyPreview:
    """The trials of a new study, before it exists.

    Samplers that learn from earlier trials are treated as if they drew every value from the distribution of the search
    space.

    Args:
        spec: what the workers will get.
        composer: composes the configs of trials.
    """

    def __init__(self, spec: "WorkerSpec", composer: "Composer") -> None:
        self._spec = spec
        self._composer = composer
        self._random: dict[tuple[tuple[str, str], ...], Combination] = {}
        # One mapping for each enqueued configuration; its shares add up to 1.
        self._enqueued: list[dict[tuple[tuple[str, str], ...], Combination]] = []
        self._keys: list[tuple[tuple[str, str], ...]] = []
        self.study_name = spec.study_name
        # Without a number of trials, nothing is planned.
        self.n_trials = spec.budget.n_trials or 0
        """Number of finished trials that complete the study."""
        self.n_jobs = spec.settings.n_jobs
        """Number of workers."""
        settings = spec.settings
        may_end = settings.scheduler.get("_target_") is not None or settings.pruner.get("_target_") != NO_PRUNER
        self.ends_early = may_end or settings.budget is not None
        """Whether a scheduler, a pruner or the budget may end trials before their last step."""

    def expected(self, matters: Callable[[str], bool]) -> Sequence[ExpectedTrials]:
        """The trials by the keys that matter; empty if there are too many combinations to tell them apart.

        Args:
            matters: whether a swept key, without `+`, matters to the plan.
        """
        from .._search_space._enqueue import enqueued
        from .._search_space._expected import combinations_of

        space = self._spec.space
        found = list(islice(combinations_of(space, matters), MOST_COMBINATIONS + 1))
        given = list(enqueued(space, self._spec.settings, quiet=True))[: self.n_trials]
        if len(found) > MOST_COMBINATIONS:
            return []
        self._random = {each.values: each for each in found}
        self._enqueued = [{each.values: each for each in combinations_of(space, matters, params)} for params in given]
        examples = {key: each for group in (self._random, *self._enqueued) for key, each in group.items()}
        self._keys = list(examples)
        return [
            ExpectedTrials(self._composer.compose(space.fixed, each.overrides), dict(key), self._expected_number(key))
            for key, each in examples.items()
        ]

    @property
    def _drawn(self) -> int:
        """Number of trials that are not enqueued."""
        return self.n_trials - len(self._enqueued)

    def _expected_number(self, key: tuple[tuple[str, str], ...]) -> float:
        fixed = sum(group[key].share for group in self._enqueued if key in group)
        return fixed + (self._drawn * self._random[key].share if key in self._random else 0.0)

    def chance(self, indexes: Collection[int]) -> float:
        """Probability that at least one trial is among the expected ones with these indexes, 0..1."""
        keys = [self._keys[i] for i in indexes]
        none_enqueued = math.prod(
            1 - min(1.0, sum(group[key].share for key in keys if key in group)) for group in self._enqueued
        )
        share = min(1.0, sum(self._random[key].share for key in keys if key in self._random))
        return 1 - none_enqueued * (0.0 if share and self._tries_everything else (1 - share) ** self._drawn)

    @property
    def _tries_everything(self) -> bool:
        from .._optuna import is_finite

        return is_finite(self._spec.settings.sampler) and self._spec.space.size() == self.n_trials

    # ---- the order of what is enqueued

    def to_enqueue(self, plan: StudyPlan) -> list[dict[str, Any]]:
        """The configurations to run first, by Optuna's parameter names, in the order of the plan.

        If the sampler tries every combination, all of them are enqueued.
        """
        from .._search_space._enqueue import enqueued
        from .._search_space._expected import combinations_of

        rank = {self._keys[index]: place for place, index in enumerate(plan.order)}

        def place(given: Mapping[str, Any]) -> int:
            combination = next(combinations_of(self._spec.space, self._matters, given))
            return rank.get(combination.values, len(rank))

        given = list(enqueued(self._spec.space, self._spec.settings))
        if plan.order and self._tries_everything and 1 < self.n_trials <= MOST_COMBINATIONS:
            every = [dict(each.params) for each in combinations_of(self._spec.space, lambda _key: True)]
            given += [params for params in every if params not in given]
        return sorted(given, key=place)

    def _matters(self, key: str) -> bool:
        return any(key in name.split(",") for values in self._keys for name, _ in values)
