"""Reading what a task returned as the values of its trial."""

import math
from collections.abc import Mapping, Set
from typing import Any

from omegaconf import OmegaConf


def read_objective(value: Any, objectives: int) -> tuple[list[float] | None, str | None]:
    """What the task returned as the objective's values, or why it is none."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    parts = _parts(value)
    if len(parts) != objectives:
        return None, f"the task must return {objectives} value(s), got {len(parts)}"
    values = []
    for part in parts:
        try:
            number = float(part)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is PyTorch's
            return None, f"the task must return a number per objective, got {str(part)[:80]!r}"
        if math.isnan(number):
            return None, f"the objective is {number}, which no study can compare"
        values.append(number)
    return values, None


def _parts(value: Any) -> list[Any]:
    """One value per objective, of a list, a tuple, a NumPy array or whatever else has an order to go through."""
    if isinstance(value, str | bytes | Mapping | Set):
        return [value]
    try:
        return list(value)
    except TypeError:  # a number, or an array without dimensions
        return [value]
