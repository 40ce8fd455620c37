"""Modules that can be called: `eyegender.train` is the module of a command and the function for Python at once.

`python -m eyegender.train` and `from eyegender.train import main` need the module, `eyegender.train(...)` a function.
With both under one name, whichever comes last would hide the other one; a module that can be called is never wrong.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class CallableModule(ModuleType):
    """A module whose call is that of a function elsewhere, which is imported at the first call."""

    function_path: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function that the module stands for."""
        return self.__wrapped_function()(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__wrapped_function())

    def __wrapped_function(self) -> Callable[..., Any]:
        module, _, name = self.function_path.rpartition(".")
        found: Callable[..., Any] = getattr(import_module(module), name)
        return found


def make_callable(name: str, function_path: str) -> None:
    """Let the module be called; nothing happens to a module that runs as a command.

    Args:
        name: `__name__` of the module.
        function_path: dotted path of the function that a call calls.
    """
    if name != "__main__":
        module = sys.modules[name]
        module.__class__ = CallableModule
        module.function_path = function_path  # type: ignore[attr-defined]
