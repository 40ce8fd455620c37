"""The search space: which keys a trial sets, to what, and when."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, distribution_to_json

from ._conditions import Condition, bare_key, comparable
from ._errors import StudyError
from ._grammar import Domain, Value

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True)
class Branch:
    """One alternative of a parameter: a domain to draw from, or a fixed text."""

    condition: Condition
    name: str
    domain: Domain | None = None
    fixed: str | None = None


@dataclass(frozen=True)
class Parameter:
    """One or several keys that are set together. The first branch whose condition holds applies."""

    keys: tuple[str, ...]
    branches: tuple[Branch, ...]

    @property
    def depends_on(self) -> set[str]:
        return {key for branch in self.branches for key in branch.condition.keys}

    def branch(self, values: Mapping[str, str]) -> Branch | None:
        return next((branch for branch in self.branches if branch.condition.holds(values)), None)


@dataclass(frozen=True)
class Draw:
    """What a trial sets: overrides for Hydra, and the same by bare key for people."""

    overrides: tuple[str, ...]
    params: dict[str, Value]


@dataclass(frozen=True)
class Space:
    """Parameters in an order in which every condition comes after the keys it names, and the overrides all share.

    `typed` are the bare keys that the command line fixes or sweeps. `late` are those of the shared overrides that come
    after what is drawn, because they were written after it and change a part of it.
    """

    parameters: tuple[Parameter, ...] = ()
    fixed: tuple[str, ...] = ()
    fixed_values: Mapping[str, str] = field(default_factory=dict)
    typed: frozenset[str] = frozenset()
    late: tuple[str, ...] = ()

    @property
    def shared(self) -> tuple[str, ...]:
        """Every override that no trial changes."""
        return (*self.fixed, *self.late)

    def suggest(self, trial: "Trial") -> Draw:
        """Draw what this trial sets; a retried trial gets what its first attempt had."""
        values = dict(self.fixed_values)
        overrides: list[str] = []
        params: dict[str, Value] = {}
        for parameter in self.parameters:
            branch = parameter.branch(values)
            if branch is None:
                continue
            value: Value
            if branch.domain is None:
                value = text = branch.fixed or ""
            else:
                value = trial._suggest(branch.name, branch.domain.distribution)
                text = branch.domain.text(value)
            for key in parameter.keys:
                overrides.append(f"{key}={text}")
                params[bare_key(key)] = value
                values[bare_key(key)] = comparable(text)
        return Draw((*overrides, *self.late), params)

    def finite_size(self) -> int | None:
        """How many different draws there are, or None when they cannot be counted."""
        count = 0
        for count, _ in enumerate(self.draws(), start=1):
            if count > 1_000_000:
                return None
        return count or None

    def draws(self) -> Iterator[tuple[str, ...]]:
        """Every draw as overrides; nothing when some domain is not finite."""
        domains = [branch.domain for parameter in self.parameters for branch in parameter.branches]
        if not any(domain is not None and domain.options is None for domain in domains):
            yield from self._draws(0, dict(self.fixed_values), ())

    def _draws(self, depth: int, values: dict[str, str], so_far: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if depth == len(self.parameters):
            yield so_far
            return
        parameter = self.parameters[depth]
        branch = parameter.branch(values)
        if branch is None:
            yield from self._draws(depth + 1, values, so_far)
            return
        texts = [branch.fixed or ""] if branch.domain is None else [o.text for o in branch.domain.options or ()]
        for text in texts:
            pairs = {bare_key(key): comparable(text) for key in parameter.keys}
            chosen = tuple(f"{key}={text}" for key in parameter.keys)
            yield from self._draws(depth + 1, {**values, **pairs}, so_far + chosen)

    def examples(self, most: int = 24) -> list[tuple[str, ...]]:
        """Draws that together show both ends of every range and every choice, at most so many."""
        shown: set[tuple[str, str]] = set()
        found: list[tuple[str, ...]] = []
        for branch in (branch for parameter in self.parameters for branch in parameter.branches):
            for text in _sample_texts(branch):
                if (branch.name, text) not in shown and len(found) < most:
                    found.append(self._example(branch, text, shown))
        return found or [self.late]

    def _example(self, wanted: Branch, wanted_text: str, shown: set[tuple[str, str]]) -> tuple[str, ...]:
        """A draw with this value of this branch where it can be had, and values not shown before elsewhere."""
        values, overrides = dict(self.fixed_values), []
        needed = dict(wanted.condition.requirements)
        for parameter in self.parameters:
            branch = parameter.branch(values)
            if branch is None:
                continue
            texts = _sample_texts(branch)
            fresh = [text for text in texts if (branch.name, text) not in shown]
            text = wanted_text if branch is wanted else (fresh or texts)[0]
            for key in map(bare_key, parameter.keys):
                text = next((each for each in texts if comparable(each) == needed.get(key)), text)
            shown.add((branch.name, text))
            overrides += [f"{key}={text}" for key in parameter.keys]
            values.update({bare_key(key): comparable(text) for key in parameter.keys})
        shown.add((wanted.name, wanted_text))
        return (*overrides, *self.late)

    def grid(self) -> dict[str, list[Value]]:
        """The values of each parameter, for the grid sampler.

        Raises:
            StudyError: a range cannot be listed, or a range depends on another parameter.
        """
        values: dict[str, list[Value]] = {}
        for parameter in self.parameters:
            for branch in parameter.branches:
                if branch.condition.requirements:
                    raise StudyError(
                        f"the grid sampler knows no conditions, got one on '{parameter.keys[0]}'; "
                        "use hydra/sweeper/sampler=brute_force"
                    )
                if branch.domain is None:
                    continue
                if branch.domain.options is None:
                    raise StudyError(
                        f"the grid sampler needs values that can be listed, got an interval for "
                        f"'{parameter.keys[0]}'; use range or choice"
                    )
                values[branch.name] = [option.value for option in branch.domain.options]
        return values

    def described(self) -> dict[str, Any]:
        """The space as plain data, to be stored with the study and compared when it is opened again."""
        return {
            ",".join(parameter.keys): {
                str(branch.condition): branch.fixed if branch.domain is None else _described(branch.domain.distribution)
                for branch in parameter.branches
            }
            for parameter in self.parameters
        }


def _described(distribution: BaseDistribution) -> str:
    return str(distribution_to_json(distribution))


def _sample_texts(branch: Branch) -> list[str]:
    if branch.domain is None:
        return [branch.fixed or ""]
    distribution, options = branch.domain.distribution, branch.domain.options
    if options is None:
        return [branch.domain.text(distribution.low), branch.domain.text(distribution.high)]  # type: ignore[attr-defined]
    ordered = hasattr(distribution, "low")
    return [option.text for option in ((options[0], options[-1]) if ordered else options)]
