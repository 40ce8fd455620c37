"""Predicts CelebA's binary label from images of one eye: training, search, tracking, comparison and use.

From Python: `train`, `sweep`, `compare`, `promote`, `load_model`, `load_study` and `compose` do what the commands do,
and raise `UserError` with the line that a command would print. Importing this module imports neither torch nor MLflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eyegender.api.comparing import ComparisonResult as ComparisonResult
    from eyegender.api.comparing import compare as compare
    from eyegender.api.composing import compose as compose
    from eyegender.api.loading import load_model as load_model
    from eyegender.api.loading import load_study as load_study
    from eyegender.api.promoting import promote as promote
    from eyegender.api.sweeping import SweepResult as SweepResult
    from eyegender.api.sweeping import sweep as sweep
    from eyegender.api.training import TrainResult as TrainResult
    from eyegender.api.training import train as train
    from eyegender.core.errors import UserError as UserError

    __version__: str

__all__ = [
    "ComparisonResult",
    "SweepResult",
    "TrainResult",
    "UserError",
    "__version__",
    "compare",
    "compose",
    "load_model",
    "load_study",
    "promote",
    "sweep",
    "train",
]

# Where each name is. `train`, `compare` and `promote` are also modules, those of the commands, and Python assigns a
# module to its package whenever somebody imports it: a function of the same name would be replaced by then. So these
# names always mean the module, and the module can be called; see core/callable_module.py.
_MODULES = ("train", "compare", "promote")
_HOMES = {
    "ComparisonResult": "eyegender.api.comparing",
    "SweepResult": "eyegender.api.sweeping",
    "TrainResult": "eyegender.api.training",
    "UserError": "eyegender.core.errors",
    "compose": "eyegender.api.composing",
    "load_model": "eyegender.api.loading",
    "load_study": "eyegender.api.loading",
    "sweep": "eyegender.api.sweeping",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"eyegender.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("eyegender")
        except PackageNotFoundError:  # it runs from its sources
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
