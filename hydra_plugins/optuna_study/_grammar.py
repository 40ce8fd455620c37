"""From a range in Hydra's sweep grammar to the set of values that every sampler draws from.

`range` excludes its end, as in Hydra and Python; `interval` includes both; an interval is of floats unless it is cast
(`int(interval(1, 8))`). `shuffle` and `sort` change no set of values, so they change nothing here.
"""

import difflib
import math
import re
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

from ._errors import StudyError

Value = None | bool | int | float | str

_PLAIN = re.compile(r"[A-Za-z_][\w./:@%+-]*")
_WORDS_OF_ANOTHER_TYPE = {"true", "false", "null", "none", "nan", "inf", "yes", "no", "on", "off"}
# More values than this are not listed one by one: nobody walks a grid of them.
_MOST_LISTED = 100_000


@dataclass(frozen=True)
class Option:
    """One value of a finite set, and how an override writes it."""

    value: Value
    text: str


@dataclass(frozen=True)
class Domain:
    """What a parameter may be. `options` is None where the values cannot be listed."""

    distribution: BaseDistribution
    options: tuple[Option, ...] | None = None

    def text(self, value: Any) -> str:
        """The override's right-hand side for a sampled value."""
        if self.options is None:
            return value_text(value)
        if isinstance(self.distribution, CategoricalDistribution):
            for option in self.options:
                if option.value == value and type(option.value) is type(value):
                    return option.text
            return value_text(value)
        # Samplers reach low + k * step in floating point; the member of the set nearest to it is meant.
        return min(self.options, key=lambda option: abs(float(option.value) - value)).text  # type: ignore[arg-type]


def value_text(value: Any) -> str:
    """A value as the right-hand side of an override, quoted where Hydra would read another type or fail."""
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
        StudyError: the range is empty, reversed or of a kind no sampler knows.
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
        integers = _integers(range(low, high + 1)) if high - low < _MOST_LISTED else None
        return Domain(IntDistribution(low, high, log=log), integers)
    return Domain(FloatDistribution(float(low), float(high), log=log))


def _range(sweep: RangeSweep, written: str) -> Domain:
    _check_tags(sweep.tags, written)
    start, stop, step, log = sweep.start, sweep.stop, sweep.step, "log" in sweep.tags
    if start is None or stop is None:
        raise StudyError(f"range needs a start and a stop, got '{written}'")
    if step == 0:
        raise StudyError(f"range's step must not be 0, got '{written}'")
    # Through their decimal text: 0.1 * 3 must be 0.3 here, not 0.30000000000000004.
    first, end, stride = (Decimal(str(number)) for number in (start, stop, step))
    count = math.ceil((end - first) / stride)
    if count <= 0:
        raise StudyError(f"range must hold at least one value (its end is excluded), got '{written}'")
    if count > _MOST_LISTED:
        raise StudyError(f"range must hold at most {_MOST_LISTED} values, got '{written}'; use interval")
    members = sorted(first + k * stride for k in range(count))
    whole = all(isinstance(number, int) for number in (start, stop, step))
    if log and not (whole and abs(stride) == 1 and members[0] > 0):
        raise StudyError(f"tag(log, range(..)) needs integers above 0 in steps of 1, got '{written}'; use interval")
    if whole:
        integers = [int(member) for member in members]
        distribution = IntDistribution(integers[0], integers[-1], log=log, step=abs(int(stride)))
        return Domain(distribution, _integers(integers))
    floats = [float(member) for member in members]
    spread = FloatDistribution(floats[0], floats[-1], step=float(abs(stride)))
    return Domain(spread, tuple(Option(member, repr(member)) for member in floats))


def _integers(numbers: Any) -> tuple[Option, ...]:
    return tuple(Option(number, str(number)) for number in numbers)


def _choice(elements: list[Any], written: str) -> Domain:
    options = []
    for element in elements:
        if isinstance(element, QuotedString):
            options.append(Option(element.text, element.with_quotes()))
        elif element is None or isinstance(element, bool | int | float | str):
            options.append(Option(element, value_text(element)))
        else:
            text = Transformer.str(element)  # a list or a mapping: Optuna keeps its text
            options.append(Option(text, text))
    if not options:
        raise StudyError(f"choice must hold at least one value, got '{written}'")
    if len({(type(option.value), option.value) for option in options}) < len(options):
        raise StudyError(f"choice must not hold a value twice, got '{written}'")
    return Domain(CategoricalDistribution([option.value for option in options]), tuple(options))


def _check_tags(tags: set[str], written: str) -> None:
    """Tags are free, but one that was meant to be `log` must not end as a linear scale."""
    for tag in sorted(tags - {"log"}):
        if tag.lower().startswith("log") or difflib.get_close_matches(tag.lower(), ["log"]):
            raise StudyError(f"tag '{tag}' in '{written}' means nothing here; write log for a logarithmic scale")
