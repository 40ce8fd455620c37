"""The part of a run's config that using its model needs: read from runs of older and newer versions, too."""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eyegender.core.allow_list import load_class
from eyegender.core.schema import DataSection  # noqa: TC001 - pydantic reads it
from eyegender.models.backbone import Backbone, resolve_depth
from eyegender.models.saved_network import ModelSpec


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class StoredBackbone(_Stored):
    """The class of the backbone."""

    target: str = Field(alias="_target_")


class StoredModel(_Stored):
    """What the network was built from."""

    backbone: StoredBackbone
    head: str
    finetune_depth: int | Literal["all"]
    flip_test: bool = False


class StoredConfig(_Stored):
    """A run's data, network and seed."""

    data: DataSection
    model: StoredModel
    seed: int

    def spec(self) -> ModelSpec:
        """What a checkpoint's network is built from and fed with.

        Raises:
            UserError: the backbone's class is not allowed, or the config does not fit it.
        """
        cls = load_class(self.model.backbone.target, Backbone)
        stages = len(cls().stages)
        return ModelSpec(
            backbone=self.model.backbone.target,
            head=self.model.head,
            depth=resolve_depth(self.model.finetune_depth, stages, cls.name),
            size=cls.check_size(self.data.size),
            color=self.data.color,
            classes=self._classes(),
            flip_average=self.model.flip_test,
        )

    def _classes(self) -> tuple[str, str]:
        """Of class folders by their names, of all other sources CelebA's."""
        named: Any = self.data.reader.arguments.get("classes")
        if isinstance(named, list) and len(named) == 2:
            return str(named[0]), str(named[1])
        return "female", "male"


def parse_config(text: str) -> StoredConfig | None:
    """A run's `config.yaml`, maybe a stranger's: checked here, and what it names is built by `allowed` only."""
    try:
        return StoredConfig.model_validate(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError, ValueError, RecursionError):  # dates that are none, nesting without end
        return None
