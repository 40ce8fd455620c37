"""Composing each trial's config, without doing again what all trials share.

Hydra composes from the defaults list on every call, which costs more than everything else around a cheap trial. Trials
that choose the same config groups differ only in plain values, so the rest is composed once and copied.
"""

import copy

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from ._set_aside import set_secrets_aside


class Composer:
    """Args:
    config: the command's config, whose Hydra overrides and resolved times every trial shares.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self.loader = loader
        self.config = config
        self._parser = OverridesParser.create(config_loader=loader)
        self._bases: dict[tuple[str, ...], DictConfig] = {}
        self._groups: dict[str, bool] = {}

    def compose(self, fixed: tuple[str, ...], drawn: tuple[str, ...]) -> DictConfig:
        """The same config as Hydra's own `load_sweep_config` gives for both together."""
        parsed = self._parser.parse_overrides(list(drawn))
        plain = [override for override in parsed if self._is_plain(override)]
        choosing = tuple(line for line, override in zip(drawn, parsed, strict=True) if not self._is_plain(override))
        base = self._bases.get((*fixed, *choosing))
        if base is None:
            base = self.loader.load_sweep_config(self.config, [*fixed, *choosing])
            set_secrets_aside(base)
            self._bases[(*fixed, *choosing)] = base
        config = copy.deepcopy(base)
        for override in plain:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        # As Hydra lists them: in the order given.
        task = [line for line in (*fixed, *drawn) if not line.startswith(("hydra.", "hydra/"))]
        config.hydra.overrides.task = task
        naming = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=self._parser.parse_overrides(task),
            kv_sep=naming.kv_sep,
            item_sep=naming.item_sep,
            exclude_keys=naming.exclude_keys,
        )
        OmegaConf.copy_cache(from_config=self.config, to_config=config)
        return config

    def _is_plain(self, override: Override) -> bool:
        """Whether an override changes one value that is there and no choice of a config group."""
        if override.type != OverrideType.CHANGE or override.package is not None or override.is_hydra_override():
            return False
        key = override.key_or_group
        if "/" in key or isinstance(override.value(), dict | list):
            return False
        if key not in self._groups:
            options = self.loader.get_group_options(key, results_filter=ObjectType.CONFIG)
            self._groups[key] = bool(options)
        return not self._groups[key]
