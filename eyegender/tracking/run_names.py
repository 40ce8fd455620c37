"""Names of runs and trials in MLflow: what differs comes first."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LONGEST = 120  # characters
SEPARATOR = " · "
_LABELS = {"model.finetune_depth": "depth", "trainer.max_epochs": "epochs", "trainer.batch_size": "batch"}
# Overrides that change no result, or that lists of runs show in their own columns.
_HIDDEN = (
    "data.root", "data.reader.", "tracking", "trainer.progress", "alert", "ckpt_path", "output", "overwrite", "hydra",
)  # fmt: skip


def run_name(backbone: str, overrides: Sequence[str], keys: Iterable[str]) -> str:
    """The backbone, then each overridden key with its last value.

    Args:
        backbone: name of the backbone.
        overrides: overrides on the command line.
        keys: all dotted keys of the config, which say whether a short key would be ambiguous.

    Example:
        >>> keys = ["model.lr", "seed", "data.split.seed"]
        >>> run_name("inception_v3", ["model.lr=0.01", "seed=1", "data.split.seed=2", "model.lr=0.00123456"], keys)
        'inception_v3 · lr 1.23e-3 · seed 1 · split.seed 2'
    """
    values: dict[str, str] = {}
    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        if equals and not _is_hidden(key):
            values[key] = value
    return _joined([backbone, *_parts(values, keys)])


def trial_name(number: int, params: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The number of a trial and its parameters; its study says what all trials have in common.

    Example:
        >>> trial_name(3, {"model.finetune_depth": 8, "model.lr": 0.0013}, ["model.finetune_depth", "model.lr"])
        'trial 3 · depth 8 · lr 1.3e-3'
    """
    return _joined([f"trial {number}", *_parts({key.lstrip("+~"): value for key, value in params.items()}, keys)])


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """A short text for each dotted key: its last part or, where that is ambiguous, the key without its section."""
    keys = list(dict.fromkeys(keys))
    last = Counter(key.rpartition(".")[2] for key in keys)
    return {
        key: _LABELS.get(key)
        or (key.rpartition(".")[2] if last[key.rpartition(".")[2]] == 1 else key.partition(".")[2] or key)
        for key in keys
    }


def short_value(value: object) -> str:
    """A number with three significant digits, the last part of a path, any other value as it is.

    Example:
        >>> [short_value(x) for x in (0.0010234567, "1e-4", 0.25, 96, "/a/b.pth", "cosine")]
        ['1.02e-3', '1e-4', '0.25', '96', 'b.pth', 'cosine']
    """
    text = str(value)
    if text.startswith("/"):
        return text.rstrip("/").rpartition("/")[2] or text
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number) or text.lstrip("+-").isdigit():
        return text
    if number == 0 or 0.01 <= abs(number) < 1e4:
        return f"{number:.3g}"
    digits, _, exponent = f"{number:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _parts(values: Mapping[str, object], keys: Iterable[str]) -> list[str]:
    short = short_keys([*keys, *values])
    return [f"{short[key]} {short_value(value)}" for key, value in values.items()]


def _joined(parts: Sequence[str]) -> str:
    """As many parts as fit, so that no value is cut in its middle."""
    name = parts[0]
    for part in parts[1:]:
        if len(name) + len(SEPARATOR) + len(part) > LONGEST - 2:
            return f"{name} …"[:LONGEST]
        name += SEPARATOR + part
    return name[:LONGEST]


def _is_hidden(key: str) -> bool:
    return key == "model" or key.startswith(_HIDDEN)
