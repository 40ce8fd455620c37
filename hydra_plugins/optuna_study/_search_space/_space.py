"""The search space of a study: which keys a trial sets, to what values, and under which conditions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from optuna.distributions import distribution_to_json

from .._optuna import suggest
from .._trial import StudyError
from ._grammar import Condition, Domain, Lookup, Value, bare_key, domain_of, normalized

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from optuna.trial import Trial


@dataclass(frozen=True)
class Branch:
    """One alternative of a parameter: a domain to sample from, or a fixed text. `name` is Optuna's parameter."""

    condition: Condition
    name: str
    domain: Domain | None = None
    fixed: str | None = None

    @property
    def sample_texts(self) -> list[str]:
        """Both ends of a range, or every choice."""
        if self.domain is None:
            return [self.fixed or ""]
        distribution, options = self.domain.distribution, self.domain.options
        if options is None:
            return [self.domain.text(distribution.low), self.domain.text(distribution.high)]  # type: ignore[attr-defined]
        is_ordered = hasattr(distribution, "low")
        return [option.text for option in ((options[0], options[-1]) if is_ordered else options)]


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

    def overrides(self, text: str) -> tuple[str, ...]:
        return tuple(f"{key}={text}" for key in self.keys)

    def values(self, text: str) -> dict[str, str]:
        return {bare_key(key): normalized(text) for key in self.keys}


@dataclass(frozen=True)
class Suggestion:
    """What a trial sets: overrides for Hydra, and values by key without `+`."""

    overrides: tuple[str, ...]
    params: dict[str, Value]


@dataclass(frozen=True)
class Space:
    """Parameters, in an order in which every condition comes after the keys it names, and overrides of all trials.

    Args:
        parameters: the swept keys.
        fixed: overrides that all trials share.
        fixed_values: values of the fixed keys.
        from_command_line: keys that the command line fixes or sweeps, without `+`.
        applied_last: shared overrides that apply after a trial's own, because they change a part of a swept mapping
            that was written before them.
    """

    parameters: tuple[Parameter, ...] = ()
    fixed: tuple[str, ...] = ()
    fixed_values: Mapping[str, str] = field(default_factory=dict)
    from_command_line: frozenset[str] = frozenset()
    applied_last: tuple[str, ...] = ()

    @property
    def shared(self) -> tuple[str, ...]:
        """Every override that no trial changes."""
        return (*self.fixed, *self.applied_last)

    def suggest(self, trial: "Trial") -> Suggestion:
        """Suggest the values of this trial; a retry gets those of the first attempt."""
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
                value = suggest(trial, branch.name, branch.domain.distribution)
                text = branch.domain.text(value)
            overrides += parameter.overrides(text)
            params.update({bare_key(key): value for key in parameter.keys})
            values.update(parameter.values(text))
        return Suggestion((*overrides, *self.applied_last), params)

    def size(self) -> int | None:
        """The number of combinations, or None if they cannot be counted."""
        count = 0
        for count, _ in enumerate(self.combinations(), start=1):
            if count > 1_000_000:
                return None
        return count or None

    def combinations(self) -> Iterator[tuple[str, ...]]:
        """Every combination as overrides; none if some domain cannot be listed."""
        domains = [branch.domain for parameter in self.parameters for branch in parameter.branches]
        if not any(domain is not None and domain.options is None for domain in domains):
            yield from self._combinations(0, dict(self.fixed_values), ())

    def _combinations(self, depth: int, values: dict[str, str], so_far: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if depth == len(self.parameters):
            yield so_far
            return
        parameter = self.parameters[depth]
        branch = parameter.branch(values)
        if branch is None:
            yield from self._combinations(depth + 1, values, so_far)
            return
        texts = [branch.fixed or ""] if branch.domain is None else [o.text for o in branch.domain.options or ()]
        for text in texts:
            yield from self._combinations(
                depth + 1, {**values, **parameter.values(text)}, so_far + parameter.overrides(text)
            )

    def examples(self, most: int = 24) -> list[tuple[str, ...]]:
        """At most this many suggestions that together contain both ends of every range and every choice."""
        shown: set[tuple[str, str]] = set()
        found: list[tuple[str, ...]] = []
        for branch in (branch for parameter in self.parameters for branch in parameter.branches):
            for text in branch.sample_texts:
                if (branch.name, text) not in shown and len(found) < most:
                    found.append(self._example(branch, text, shown))
        return found or [self.applied_last]

    def _example(self, wanted: Branch, wanted_text: str, shown: set[tuple[str, str]]) -> tuple[str, ...]:
        """A suggestion with this value of this branch, if possible, and otherwise with values not shown before."""
        values = dict(self.fixed_values)
        overrides: list[str] = []
        needed = dict(wanted.condition.requirements)
        for parameter in self.parameters:
            branch = parameter.branch(values)
            if branch is None:
                continue
            texts = branch.sample_texts
            new = [text for text in texts if (branch.name, text) not in shown]
            text = wanted_text if branch is wanted else (new or texts)[0]
            for key in map(bare_key, parameter.keys):
                text = next((each for each in texts if normalized(each) == needed.get(key)), text)
            shown.add((branch.name, text))
            overrides += parameter.overrides(text)
            values.update(parameter.values(text))
        shown.add((wanted.name, wanted_text))
        return (*overrides, *self.applied_last)

    def grid(self) -> dict[str, list[Value]]:
        """The values of each parameter, for the grid sampler.

        Raises:
            StudyError: a range cannot be listed, or depends on another parameter.
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
        """The space as plain data, which is stored with the study and compared when it is opened again."""
        return {
            ",".join(parameter.keys): {
                str(branch.condition): branch.fixed
                if branch.domain is None
                else str(distribution_to_json(branch.domain.distribution))
                for branch in parameter.branches
            }
            for parameter in self.parameters
        }


# ---- building it from `params` and the command line

_Branches = list[tuple[Condition, Override | Domain]]


def build_space(params: Mapping[str, Any], arguments: list[str], lookup: Lookup, loader: "ConfigLoader") -> Space:
    """The space of `params`, changed by the overrides of the command line.

    Args:
        params: key to range, as described in config.py.
        arguments: overrides of the command line; a range replaces the one of the same key, a value fixes the key.
        lookup: the value in the config of a key that is not swept.
        loader: resolves `glob(..)` in choices of a config group.

    Raises:
        StudyError: a range or a condition is not valid, or conditions are circular.
    """
    parser = OverridesParser.create(config_loader=loader)
    entries: dict[str, tuple[tuple[str, ...], _Branches]] = {}
    fixed: dict[str, Override] = {}
    for key, written in params.items():
        keys = tuple(part.strip() for part in str(key).split(","))
        pairs = (
            [(Condition.parse(str(when), str(key)), value) for when, value in written.items()]
            if isinstance(written, Mapping)
            else [(Condition(), written)]
        )
        branches = [(when, v if isinstance(v, Domain) else _parse_value(parser, keys[0], v)) for when, v in pairs]
        single = branches[0][1]
        if not isinstance(written, Mapping) and isinstance(single, Override) and not single.is_sweep_override():
            fixed.update({bare_key(each): _parse_value(parser, each, written) for each in keys})
        else:
            entries[bare_key(keys[0])] = (keys, branches)
    overrides = _parse(parser, arguments)
    for override in overrides:
        key = bare_key(override.get_key_element())
        _remove(key, entries)
        if override.is_sweep_override():
            fixed.pop(key, None)
            entries[key] = ((override.get_key_element(),), [(Condition(), override)])
        else:
            fixed[key] = override
    values = {
        key: normalized(override.get_value_element_as_str())
        for key, override in fixed.items()
        if not override.is_delete()
    }

    def known(key: str) -> str | None:
        return values[key] if key in values else lookup(key)

    from_command_line = [bare_key(override.get_key_element()) for override in overrides]
    order = [bare_key(part.strip()) for key in params for part in str(key).split(",")] + from_command_line
    swept = {bare_key(key) for keys, _ in entries.values() for key in keys}
    parameters = [_parameter(keys, branches, swept, known) for keys, branches in entries.values()]
    ordered = _in_order([parameter for parameter in parameters if parameter.branches])
    nodes = {name for p in parameters if any(map(_sets_a_node, p.branches)) for name in map(bare_key, p.keys)}
    nodes |= {key for key, override in fixed.items() if isinstance(override.value(), dict | list)}
    last = {key for key in fixed if _applies_last(key, order, swept, nodes)}
    lines = [tuple(o.input_line or "" for key, o in fixed.items() if (key in last) is late) for late in (False, True)]
    return Space(ordered, lines[0], values, frozenset(from_command_line), lines[1])


def _sets_a_node(branch: Branch) -> bool:
    options = branch.domain.options or () if branch.domain is not None else ()
    return any(option.text.startswith(("{", "[")) for option in options)


def _applies_last(key: str, order: list[str], swept: set[str], nodes: set[str]) -> bool:
    """Whether this fixed key changes a part of a swept mapping that was written before it, or contains a swept key.

    `order` lists all keys as they were written; `nodes` are those that are set to a mapping or a list.
    """
    earlier = order[: len(order) - order[::-1].index(key)]
    name = key.lstrip("~")
    return any(
        (other in nodes and name.startswith(f"{other}.")) or (key in nodes and other.startswith(f"{name}."))
        for other in earlier
        if other in swept
    )


def _remove(key: str, entries: dict[str, tuple[tuple[str, ...], _Branches]]) -> None:
    """Remove a key from what `params` sweep; the other keys of its parameter stay."""
    for name, (keys, branches) in list(entries.items()):
        others = tuple(each for each in keys if bare_key(each) != key)
        if others != keys:
            del entries[name]
            if others:
                entries[bare_key(others[0])] = (others, branches)


def _parameter(keys: tuple[str, ...], branches: _Branches, swept: set[str], lookup: Lookup) -> Parameter:
    name = ", ".join(bare_key(key) for key in keys)
    possible: list[Branch] = []
    for condition, source in branches:
        left = condition.simplified(swept, lookup)
        if left is None:
            continue
        # For the sampler, each branch is a separate parameter: depth 3 of one model says nothing about another model.
        label = f"{name} ({left})" if left.requirements else (f"{name} (else)" if possible else name)
        if isinstance(source, Domain):
            possible.append(Branch(left, label, source))
        elif source.is_sweep_override():
            possible.append(Branch(left, label, domain_of(source)))
        else:
            possible.append(Branch(left, label, fixed=source.get_value_element_as_str()))
        if not left.requirements:
            break
    return Parameter(keys, tuple(possible))


def _in_order(parameters: list[Parameter]) -> tuple[Parameter, ...]:
    """Each parameter after those on which it depends, and otherwise in the order in which they are written."""
    ordered: list[Parameter] = []
    known: set[str] = set()
    waiting = list(parameters)
    while waiting:
        ready = next((parameter for parameter in waiting if parameter.depends_on <= known), None)
        if ready is None:
            keys = ", ".join(f"'{parameter.keys[0]}'" for parameter in waiting)
            raise StudyError(f"conditions must not be circular, got a circle through {keys}")
        ordered.append(ready)
        known |= set(map(bare_key, ready.keys))
        waiting.remove(ready)
    return tuple(ordered)


def _parse_value(parser: OverridesParser, key: str, value: Any) -> Override:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return _parse(parser, [f"{key}={text}"])[0]


def _parse(parser: OverridesParser, lines: list[str]) -> list[Override]:
    try:
        return parser.parse_overrides(lines)
    except HydraException as error:
        raise StudyError(f"the search space cannot be read: {error}") from None
