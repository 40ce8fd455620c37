"""Composing each trial's config, without doing again what all trials share.

Hydra composes from the defaults list on every call, which costs more than everything else around a cheap trial. Trials
that choose the same config groups differ only in values, so the rest is composed once and copied.
"""

import contextlib
import copy
import pickle
from collections.abc import Callable
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from ._set_aside import set_secrets_aside, without_secrets

# Where a sweep goes through more combinations of config groups than these, the rest is composed anew each time.
_MOST_BASES = 256


class Composer:
    """Args:
    config: the command's config, whose Hydra overrides and resolved times every trial shares.
    finish: changes what all trials share, once per combination of config groups.
    shown: how an override is listed in the config.
    """

    def __init__(
        self,
        loader: ConfigLoader,
        config: DictConfig,
        finish: Callable[[DictConfig], None] | None = None,
        shown: Callable[[str], str] = str,
    ) -> None:
        self.loader = loader
        self.config = config
        self._finish = finish
        self._shown = shown
        self._parser = OverridesParser.create(config_loader=loader)
        self._bases: dict[tuple[str, ...], Copies] = {}
        self._groups: dict[str, bool] = {}
        self._fixed: dict[tuple[str, ...], list[Override]] = {}

    def compose(self, fixed: tuple[str, ...], drawn: tuple[str, ...]) -> DictConfig:
        """The same config as Hydra's own `load_sweep_config` gives for both together.

        Raises:
            HydraException: a value does not fit; Hydra's own, with its words.
        """
        if fixed not in self._fixed:
            self._fixed[fixed] = self._parser.parse_overrides(list(fixed))
        parsed = self._parser.parse_overrides(list(drawn))
        values = [override for override in parsed if self._is_value(override)]
        config = self._base((*fixed, *(str(o.input_line) for o in parsed if not self._is_value(o)))).new()
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        # As Hydra lists them: in the order given.
        task = [override for override in (*self._fixed[fixed], *parsed) if not override.is_hydra_override()]
        config.hydra.overrides.task = [self._shown(str(override.input_line)) for override in task]
        naming = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=task, kv_sep=naming.kv_sep, item_sep=naming.item_sep, exclude_keys=naming.exclude_keys
        )
        OmegaConf.copy_cache(from_config=self.config, to_config=config)
        return config

    def _base(self, choosing: tuple[str, ...]) -> "Copies":
        found = self._bases.get(choosing)
        if found is None:
            config = self.loader.load_sweep_config(self.config, list(choosing))
            set_secrets_aside(config)
            if self._finish is not None:
                self._finish(config)
            found = Copies(config)
            if len(self._bases) < _MOST_BASES:
                self._bases[choosing] = found
        return found

    def _is_value(self, override: Override) -> bool:
        """Whether Hydra applies it after everything is composed: it is no choice of a config group.

        One that holds a password is none here, because passwords are set aside in what is composed.
        """
        key, line = override.key_or_group, str(override.input_line)
        if override.package is not None or override.is_hydra_override() or "/" in key or without_secrets(line) != line:
            return False
        if isinstance(override.value(), dict):
            return True
        if key not in self._groups:
            options = self.loader.get_group_options(key, results_filter=ObjectType.CONFIG)
            self._groups[key] = bool(options)
        return not self._groups[key]


class Copies:
    """Copies of one config. Pickling makes them in a fifth of the time that deepcopy takes."""

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._pickled: bytes | None = None
        with contextlib.suppress(Exception):  # a config of one process may hold what cannot be pickled
            self._pickled = pickle.dumps(config, pickle.HIGHEST_PROTOCOL)

    def new(self) -> DictConfig:
        copied: Any = copy.deepcopy(self._config) if self._pickled is None else pickle.loads(self._pickled)  # noqa: S301
        assert isinstance(copied, DictConfig)
        return copied
