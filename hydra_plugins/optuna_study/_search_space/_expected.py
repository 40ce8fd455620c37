"""How often each combination of some keys is expected in a study, before any trial has run."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from .._optuna import contains
from ._grammar import Domain, Option, Value, bare_key
from ._space import Branch, Parameter, Space

# An interval is represented by this many equally likely values.
_INTERVAL_VALUES = 8


@dataclass(frozen=True)
class Combination:
    """Values of the keys that matter, in an example of a trial that has them.

    Args:
        values: text of the value by key, for the keys that matter.
        overrides: overrides of the example.
        params: values of the example by Optuna's parameter name.
        share: probability of these values in a trial, 0..1.
    """

    values: tuple[tuple[str, str], ...]
    overrides: tuple[str, ...]
    params: Mapping[str, Value]
    share: float


def combinations_of(
    space: Space, matters: Callable[[str], bool], given: Mapping[str, Any] | None = None
) -> Iterator[Combination]:
    """Every combination of the keys that matter; the shares of all of them add up to 1.

    The shares are those of the distributions of the search space. Keys that do not matter have one value each. An
    interval that matters is represented by a few of its values.

    Args:
        space: the search space.
        matters: whether a key matters; keys that occur in the conditions of one that matters count as well.
        given: values by Optuna's parameter name, for an enqueued configuration.
    """
    matter: set[str] = set()
    for parameter in reversed(space.parameters):  # conditions come after the keys that they name
        keys = set(map(bare_key, parameter.keys))
        if keys & matter or any(map(matters, keys)):
            matter |= keys | parameter.depends_on

    def extended(depth: int, found: Combination, values: Mapping[str, str]) -> Iterator[Combination]:
        if depth == len(space.parameters):
            yield replace(found, overrides=(*found.overrides, *space.applied_last))
            return
        parameter = space.parameters[depth]
        branch = parameter.branch(values)
        if branch is None:
            yield from extended(depth + 1, found, values)
            return
        is_listed = bool(matter.intersection(map(bare_key, parameter.keys)))
        for option, share in _likely(branch, given or {}, is_listed).items():
            text = option.text
            longer = Combination(
                values=(*found.values, *(((_name(parameter), text),) if is_listed else ())),
                overrides=(*found.overrides, *parameter.overrides(text)),
                params=found.params if branch.domain is None else {**found.params, branch.name: option.value},
                share=found.share * share,
            )
            yield from extended(depth + 1, longer, {**values, **parameter.values(text)})

    yield from extended(0, Combination((), (), {}, 1.0), dict(space.fixed_values))


def _likely(branch: Branch, given: Mapping[str, Any], is_listed: bool) -> Mapping[Option, float]:
    if branch.domain is None:
        return {Option(branch.fixed, branch.fixed or ""): 1.0}
    if branch.name in given and contains(branch.domain.distribution, given[branch.name]):
        value = given[branch.name]
        return {Option(value, branch.domain.text(value)): 1.0}
    likely = likely_options(branch.domain)
    return likely if is_listed else {next(iter(likely)): 1.0}


def _name(parameter: Parameter) -> str:
    return ",".join(map(bare_key, parameter.keys))


def likely_options(domain: Domain) -> Mapping[Option, float]:
    """The values of a domain with their probabilities; for an interval, a few equally likely values."""
    distribution = domain.distribution
    if domain.options is None:
        quantiles = [_quantile(distribution, (i + 0.5) / _INTERVAL_VALUES) for i in range(_INTERVAL_VALUES)]
        return {Option(value, domain.text(value)): 1 / _INTERVAL_VALUES for value in quantiles}
    weights = [1.0] * len(domain.options)
    if isinstance(distribution, IntDistribution) and distribution.log:
        # As Optuna draws them: the logarithm is uniform, and rounding gives each integer the range around it.
        numbers = [float(str(option.value)) for option in domain.options]
        weights = [math.log((number + 0.5) / (number - 0.5)) for number in numbers]
    total = sum(weights)
    return {option: weight / total for option, weight in zip(domain.options, weights, strict=True)}


def _quantile(distribution: object, share: float) -> float | int:
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    value = low * (high / low) ** share if distribution.log else low + (high - low) * share
    return round(value) if isinstance(distribution, IntDistribution) else value
