"""Whether compiling the training step takes less than it saves in a run of this length."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING

import torch

from eyegender.core.errors import UserError
from eyegender.features.kept_note import Note, kept_note
from eyegender.features.precision_choice import MARGIN, clock, machine, measure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Compiling is worth a try only where saving so large a share of the run's steps would pay for the try, in seconds as
# `precision_choice.clock` counts them. On a CPU either backbone takes minutes, and may then be of no use.
HOPED_SHARE = 0.3
WORTH_A_TRY = {"cpu": 600.0, "cuda": 60.0}
_COMPILERS = ("g++", "clang++", "c++")
_log = logging.getLogger(__name__)


def compiling_pays(
    what: str,
    plain: Callable[[], object],
    compiled: Callable[[], object],
    *,
    number: float,
    device: torch.device,
    cache: str | Path | None = None,
) -> bool:
    """Measured once per machine and `what`, and only where the run is long enough to hope for it.

    Args:
        what: network, size, direction, precision and device.
        plain: a step.
        compiled: the same step compiled; its first call compiles it.
        number: of such steps in the run. All of them: a run that goes on must decide like one that was not interrupted.
        device: that trains.
        cache: folder, see `cache_folder`.
    """
    if device.type == "cpu" and compiler() is None:
        return False
    told = f"{what}; {machine()}; torch {torch.__version__}; {compiler() if device.type == 'cpu' else 'triton'}"
    step, _ = kept_note(
        f"step of {told}", lambda found: found["plain"] > 0, lambda: {**measure({"plain": plain})}, cache
    )
    if HOPED_SHARE * number * step["plain"] < WORTH_A_TRY.get(device.type, WORTH_A_TRY["cpu"]):
        return False
    note, new = kept_note(
        f"compiled {told}", lambda found: "failed" in found or found["plain"] > 0, lambda: _both(plain, compiled), cache
    )
    if "failed" in note:
        _log.debug("%s: steps cannot be compiled (%s)", what, note["failed"])
        return False
    saved = number * (note["plain"] - note["compiled"])
    pays = bool(saved > note["cost"] and note["compiled"] < MARGIN * note["plain"])
    if new or pays:
        _log.info(
            "%s: steps are %scompiled (%.0f ms, not compiled %.0f ms; compiling takes %.0f s)",
            what, "" if pays else "not ", 1000 * note["compiled"], 1000 * note["plain"], note["cost"],
        )  # fmt: skip
    return pays


def needs_compiler(accelerator: str) -> None:
    """Raises UserError where steps for a CPU cannot be compiled."""
    if accelerator != "gpu" and compiler() is None:
        raise UserError(
            f"trainer.compile=true needs a C++ compiler, got none of $CXX, {', '.join(_COMPILERS)}; install one, or "
            "set trainer.compile=auto"
        )


def compiler() -> str | None:
    """The C++ compiler that torch would find."""
    names = (os.environ["CXX"],) if os.environ.get("CXX") else _COMPILERS
    return next((found for found in map(shutil.which, names) if found is not None), None)


def _both(plain: Callable[[], object], compiled: Callable[[], object]) -> Note:
    began, children = clock(), sum(os.times()[2:4])
    try:
        with torch.random.fork_rng():
            compiled()
    except Exception as error:  # whatever the compiler says: steps as they are do as well
        return {"failed": f"{type(error).__name__}: {str(error).strip()[:500]}"}
    cost = clock() - began
    if not torch.cuda.is_available():
        cost += sum(os.times()[2:4]) - children
    return {"cost": cost, **measure({"plain": plain, "compiled": compiled})}
