"""Ranges and conditions of a search space, as users write them.

A range in Hydra's sweep grammar becomes a `Domain`, the set of values that every sampler samples from. `range` excludes
its end, as in Hydra and Python; `interval` includes both ends and contains floats unless it is cast
(`int(interval(1, 8))`). `shuffle` and `sort` do not change the set of values, so they have no effect.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
)
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from .._trial import StudyError

Value = None | bool | int | float | str

_PLAIN = re.compile(r"[A-Za-z_][\w./:@%+-]*")
_WORDS_OF_ANOTHER_TYPE = {"true", "false", "null", "none", "nan", "inf", "yes", "no", "on", "off"}
# More values than this are not listed one by one: no grid over them could finish.
_MAX_LISTED = 100_000


# ---- ranges


@dataclass(frozen=True)
class Option:
    """One value of a finite set, and its text in an override."""

    value: Value
    text: str


@dataclass(frozen=True)
class Domain:
    """The possible values of a parameter. `options` is None if they cannot be listed."""

    distribution: BaseDistribution
    options: tuple[Option, ...] | None = None

    def text(self, value: Any) -> str:
        """The right-hand side of an override that sets this sampled value."""
        if self.options is None:
            return value_text(value)
        if isinstance(self.distribution, CategoricalDistribution):
            for option in self.options:
                if option.value == value and type(option.value) is type(value):
                    return option.text
            return value_text(value)
        # Samplers compute low + k * step in floating point; the nearest member of the set is meant.
        return min(self.options, key=lambda option: abs(float(option.value) - value)).text  # type: ignore[arg-type]


def value_text(value: Any) -> str:
    """A value as the right-hand side of an override, quoted where Hydra would otherwise read another type or fail."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        if "${" in value or (_PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_ANOTHER_TYPE):
            return value
        return QuotedString(text=value, quote=Quote.single).with_quotes()
    return repr(value)


def domain_of(override: Override) -> Domain:
    """The domain of a parsed sweep override.

    Raises:
        StudyError: the range is empty, reversed or of an unknown kind.
    """
    value = override.value()
    written = override.input_line or override.get_key_element()
    if isinstance(value, IntervalSweep):
        return _interval(value, written)
    if isinstance(value, RangeSweep):
        return _range(value, written)
    if override.is_choice_sweep():
        if isinstance(value, ChoiceSweep):
            # Not through sweep_iterator, which shuffles: the same command must give the same study.
            return _choice(list(value.list), written)
        return _choice(list(override.sweep_iterator(transformer=Transformer.identity)), written)
    raise StudyError(f"a swept key needs interval, range or choice, got '{written}'")


def _interval(sweep: IntervalSweep, written: str) -> Domain:
    _check_tags(sweep.tags, written)
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        raise StudyError(f"interval needs two finite ends, got '{written}'")
    if low > high:
        raise StudyError(f"interval's first end must not be above its second, got '{written}'; swap them")
    if log and low <= 0:
        raise StudyError(f"a log interval must start above 0, got '{written}'")
    if isinstance(low, int) and isinstance(high, int):
        integers = _integers(range(low, high + 1)) if high - low < _MAX_LISTED else None
        return Domain(IntDistribution(low, high, log=log), integers)
    return Domain(FloatDistribution(float(low), float(high), log=log))


def _range(sweep: RangeSweep, written: str) -> Domain:
    _check_tags(sweep.tags, written)
    start, stop, step, log = sweep.start, sweep.stop, sweep.step, "log" in sweep.tags
    if start is None or stop is None:
        raise StudyError(f"range needs a start and a stop, got '{written}'")
    if step == 0:
        raise StudyError(f"range's step must not be 0, got '{written}'")
    # As decimals: 0.1 * 3 must be 0.3, not 0.30000000000000004.
    first, end, stride = (Decimal(str(number)) for number in (start, stop, step))
    count = math.ceil((end - first) / stride)
    if count <= 0:
        raise StudyError(f"range must hold at least one value (its end is excluded), got '{written}'")
    if count > _MAX_LISTED:
        raise StudyError(f"range must hold at most {_MAX_LISTED} values, got '{written}'; use interval")
    members = sorted(first + k * stride for k in range(count))
    whole = all(isinstance(number, int) for number in (start, stop, step))
    if log and not (whole and abs(stride) == 1 and members[0] > 0):
        raise StudyError(f"tag(log, range(..)) needs integers above 0 in steps of 1, got '{written}'; use interval")
    if whole:
        integers = [int(member) for member in members]
        distribution = IntDistribution(integers[0], integers[-1], log=log, step=abs(int(stride)))
        return Domain(distribution, _integers(integers))
    floats = [float(member) for member in members]
    return Domain(FloatDistribution(floats[0], floats[-1], step=float(abs(stride))), _floats(floats))


def _integers(numbers: Any) -> tuple[Option, ...]:
    return tuple(Option(number, str(number)) for number in numbers)


def _floats(numbers: list[float]) -> tuple[Option, ...]:
    return tuple(Option(number, repr(number)) for number in numbers)


def _choice(elements: list[Any], written: str) -> Domain:
    options = []
    for element in elements:
        if isinstance(element, QuotedString):
            options.append(Option(element.text, element.with_quotes()))
        elif element is None or isinstance(element, bool | int | float | str):
            options.append(Option(element, value_text(element)))
        else:
            text = Transformer.str(element)  # Optuna stores a list or a mapping as its text
            options.append(Option(text, text))
    if not options:
        raise StudyError(f"choice must hold at least one value, got '{written}'")
    if len({(type(option.value), option.value) for option in options}) < len(options):
        raise StudyError(f"choice must not hold a value twice, got '{written}'")
    return Domain(CategoricalDistribution([option.value for option in options]), tuple(options))


def _check_tags(tags: set[str], written: str) -> None:
    """Users may choose tags freely, but a misspelt `log` must not silently give a linear scale."""
    for tag in sorted(tags - {"log"}):
        if tag.lower().startswith("log") or difflib.get_close_matches(tag.lower(), ["log"]):
            raise StudyError(f"tag '{tag}' in '{written}' has no effect; write log for a logarithmic scale")


# ---- hydra-optuna-sweeper's older spelling, `search_space: {x: {type: float, low: 0, high: 1}}`


def domains_of(search_space: Mapping[str, Any]) -> dict[str, Domain]:
    """Each entry of `hydra.sweeper.search_space` as a domain; `low` and `high` are both included.

    Raises:
        StudyError: an entry lacks what its type needs.
    """
    return {key: _domain_of_entry(key, entry) for key, entry in search_space.items()}


def _domain_of_entry(key: str, entry: Any) -> Domain:
    kind = str(entry.get("type", "")).rpartition(".")[2] if isinstance(entry, Mapping) else ""
    try:
        if kind == "categorical":
            choices = list(entry["choices"])
            return Domain(CategoricalDistribution(choices), tuple(Option(c, value_text(c)) for c in choices))
        low, high, step, log = entry["low"], entry["high"], entry.get("step"), bool(entry.get("log", False))
        if kind == "int":
            whole = IntDistribution(int(low), int(high), log=log, step=int(step or 1))
            return Domain(whole, _integers(range(whole.low, whole.high + 1, whole.step)))
        if kind == "float":
            if step is None or log:
                return Domain(FloatDistribution(float(low), float(high), log=log))
            stepped = FloatDistribution(float(low), float(high), step=float(step))
            count = round((stepped.high - stepped.low) / float(step)) + 1
            return Domain(stepped, _floats([round(stepped.low + k * float(step), 12) for k in range(count)]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(f"search_space.{key} cannot be read ({error}); write it in params") from None
    raise StudyError(f"search_space.{key}.type must be int, float or categorical, got '{kind}'; write it in params")


# ---- conditions: `model=inception_v3`, several of them joined by `&`, or `else`

# The value of a config key as an override would write it, or None if it has none.
Lookup = Callable[[str], str | None]


def bare_key(key: str) -> str:
    """A key without Hydra's `+` or `++`."""
    return key.lstrip("+")


def normalized(text: str) -> str:
    """A value as conditions compare it: without quotes and surrounding spaces, and with null for None."""
    text = text.strip().strip("'\"")
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


@dataclass(frozen=True)
class Condition:
    """Holds if each of these keys has its value; without requirements, it always holds."""

    requirements: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str, key: str) -> "Condition":
        """Read a condition of the range of this key.

        Raises:
            StudyError: it is not a condition.
        """
        if text.strip() == "else":
            return cls()
        requirements = []
        for part in text.split("&"):
            name, equals, value = part.partition("=")
            if not equals or not name.strip() or not value.strip():
                raise StudyError(
                    f"a condition of '{key}' must read KEY=VALUE, several joined by '&', or else; got '{text}'"
                )
            requirements.append((bare_key(name.strip()), normalized(value)))
        return cls(tuple(requirements))

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key, _ in self.requirements)

    def holds(self, values: Mapping[str, str]) -> bool:
        return all(values.get(key) == value for key, value in self.requirements)

    def simplified(self, swept: set[str], lookup: Lookup) -> "Condition | None":
        """What remains to check in each trial, once the keys that no trial changes are looked up; None: never holds.

        Raises:
            StudyError: a key is neither swept nor in the config.
        """
        remaining = []
        for key, value in self.requirements:
            if key in swept:
                remaining.append((key, value))
                continue
            found = lookup(key)
            if found is None:
                raise StudyError(f"a condition names '{key}', which is neither swept nor in the config; got '{self}'")
            if normalized(found) != value:
                return None
        return Condition(tuple(remaining))

    def __str__(self) -> str:
        return " & ".join(f"{key}={value}" for key, value in self.requirements) or "else"
