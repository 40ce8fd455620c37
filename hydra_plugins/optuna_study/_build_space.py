"""Building the search space from `params` and the command line."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from ._conditions import Condition, Lookup, bare_key, comparable
from ._errors import StudyError
from ._grammar import Domain, domain_of
from ._space import Branch, Parameter, Space

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader


def build_space(params: Mapping[str, Any], arguments: list[str], lookup: Lookup, loader: "ConfigLoader") -> Space:
    """The space of `params` with the command line's overrides on top of it.

    Args:
        params: key to range, as described in config.py.
        arguments: the command line's overrides; a range replaces the one of the same key, a value fixes the key.
        lookup: what a key that nothing sweeps is set to in the config.
        loader: resolves `glob(..)` in choices of a config group.

    Raises:
        StudyError: a range or a condition cannot be understood, or conditions form a circle.
    """
    parser = OverridesParser.create(config_loader=loader)
    entries: dict[str, tuple[tuple[str, ...], list[tuple[Condition, Override | Domain]]]] = {}
    fixed: dict[str, Override] = {}
    for key, written in params.items():
        keys = tuple(part.strip() for part in str(key).split(","))
        pairs = (
            [(Condition.parse(str(when), str(key)), value) for when, value in written.items()]
            if isinstance(written, Mapping)
            else [(Condition(), written)]
        )
        branches = [(when, v if isinstance(v, Domain) else _parsed(parser, keys[0], v)) for when, v in pairs]
        single = branches[0][1]
        if not isinstance(written, Mapping) and isinstance(single, Override) and not single.is_sweep_override():
            for each in keys:
                fixed[bare_key(each)] = _parsed(parser, each, written)
        else:
            entries[bare_key(keys[0])] = (keys, branches)
    typed = _parse(parser, arguments)
    for override in typed:
        key = bare_key(override.get_key_element())
        _forget(key, entries)
        if override.is_sweep_override():
            fixed.pop(key, None)
            entries[key] = ((override.get_key_element(),), [(Condition(), override)])
        else:
            fixed[key] = override
    values = {key: comparable(_text(override)) for key, override in fixed.items() if not override.is_delete()}

    def known(key: str) -> str | None:
        return values.get(key) if key in values else lookup(key)

    order = [bare_key(part.strip()) for key in params for part in str(key).split(",")]
    order += [bare_key(override.get_key_element()) for override in typed]
    swept = {bare_key(key) for keys, _ in entries.values() for key in keys}
    parameters = [_parameter(keys, branches, swept, known) for keys, branches in entries.values()]
    ordered = _in_order([parameter for parameter in parameters if parameter.branches])
    whole = {name for p in parameters if any(map(_sets_a_node, p.branches)) for name in map(bare_key, p.keys)}
    whole |= {key for key, override in fixed.items() if isinstance(override.value(), dict | list)}
    late = {key for key in fixed if _comes_after_its_node(key, order, swept, whole)}
    lines = [tuple(o.input_line or "" for key, o in fixed.items() if (key in late) is after) for after in (False, True)]
    names = frozenset(bare_key(override.get_key_element()) for override in typed)
    return Space(ordered, lines[0], values, names, lines[1])


def _sets_a_node(branch: Branch) -> bool:
    options = branch.domain.options or () if branch.domain is not None else ()
    return any(option.text.startswith(("{", "[")) for option in options)


def _comes_after_its_node(key: str, order: list[str], swept: set[str], whole: set[str]) -> bool:
    """Whether this fixed key changes a part of a mapping that is swept and was written before it, or holds a swept key.

    Args:
    order: all keys as they were written.
    whole: those that are set to a mapping or a list.
    """
    earlier = order[: len(order) - order[::-1].index(key)]
    name = key.lstrip("~")
    return any(
        (other in whole and name.startswith(f"{other}.")) or (key in whole and other.startswith(f"{name}."))
        for other in earlier
        if other in swept
    )


def _forget(key: str, entries: dict[str, tuple[tuple[str, ...], list[Any]]]) -> None:
    """Take a key out of what `params` sweep; the other keys of its parameter stay."""
    for name, (keys, branches) in list(entries.items()):
        left = tuple(each for each in keys if bare_key(each) != key)
        if left != keys:
            del entries[name]
            if left:
                entries[bare_key(left[0])] = (left, branches)


def _parameter(
    keys: tuple[str, ...], branches: list[tuple[Condition, Override | Domain]], swept: set[str], lookup: Lookup
) -> Parameter:
    name = ", ".join(bare_key(key) for key in keys)
    kept: list[Branch] = []
    for condition, source in branches:
        left = condition.given(swept, lookup)
        if left is None:
            continue
        # Each branch is a parameter of its own to the sampler: depth 3 of one model says nothing about another's.
        label = f"{name} ({left})" if left.requirements else (f"{name} (else)" if kept else name)
        if isinstance(source, Domain):
            kept.append(Branch(left, label, source))
        elif source.is_sweep_override():
            kept.append(Branch(left, label, domain_of(source)))
        else:
            kept.append(Branch(left, label, fixed=_text(source)))
        if not left.requirements:
            break
    return Parameter(keys, tuple(kept))


def _in_order(parameters: list[Parameter]) -> tuple[Parameter, ...]:
    ordered: list[Parameter] = []
    known: set[str] = set()
    waiting = list(parameters)
    while waiting:
        ready = [p for p in waiting if p.depends_on <= known]
        if not ready:
            keys = ", ".join(f"'{parameter.keys[0]}'" for parameter in waiting)
            raise StudyError(f"conditions must not form a circle, got one through {keys}")
        # One at a time, so that parameters keep the order in which they are written wherever they can.
        ordered.append(ready[0])
        known |= {bare_key(key) for key in ready[0].keys}
        waiting.remove(ready[0])
    return tuple(ordered)


def _parsed(parser: OverridesParser, key: str, value: Any) -> Override:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return _parse(parser, [f"{key}={text}"])[0]


def _parse(parser: OverridesParser, lines: list[str]) -> list[Override]:
    try:
        return parser.parse_overrides(lines)
    except HydraException as error:
        raise StudyError(f"the search space cannot be read: {error}") from None


def _text(override: Override) -> str:
    return override.get_value_element_as_str()
