"""hydra-optuna-sweeper's older spelling of a search space, `search_space: {x: {type: float, low: 0, high: 1}}`."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ._errors import StudyError
from ._grammar import Domain, Option, value_text


def params_of(search_space: Mapping[str, Any]) -> dict[str, Domain]:
    """Each entry as a domain. `low` and `high` are both included, as they were there.

    Raises:
        StudyError: an entry lacks what its type needs.
    """
    return {key: _domain(key, entry) for key, entry in search_space.items()}


def _domain(key: str, entry: Any) -> Domain:
    kind = str(entry.get("type", "")).rpartition(".")[2] if isinstance(entry, Mapping) else ""
    try:
        if kind == "categorical":
            choices = list(entry["choices"])
            return Domain(CategoricalDistribution(choices), tuple(Option(c, value_text(c)) for c in choices))
        low, high, step, log = entry["low"], entry["high"], entry.get("step"), bool(entry.get("log", False))
        if kind == "int":
            whole = IntDistribution(int(low), int(high), log=log, step=int(step or 1))
            numbers = range(whole.low, whole.high + 1, whole.step)
            return Domain(whole, tuple(Option(number, str(number)) for number in numbers))
        if kind == "float":
            if step is None or log:
                return Domain(FloatDistribution(float(low), float(high), log=log))
            spread = FloatDistribution(float(low), float(high), step=float(step))
            count = round((spread.high - spread.low) / float(step)) + 1
            members = [round(spread.low + k * float(step), 12) for k in range(count)]
            return Domain(spread, tuple(Option(member, repr(member)) for member in members))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(f"search_space.{key} cannot be read ({error}); write it in params") from None
    raise StudyError(f"search_space.{key}.type must be int, float or categorical, got '{kind}'; write it in params")
