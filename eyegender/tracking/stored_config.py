"""The part of a stored config that is needed to use the run's model; other versions of the config are readable, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eyegender.core.schema import DataSection  # noqa: TC001 - pydantic reads it
from eyegender.models.backbone import load_backbone, resolve_depth
from eyegender.models.saved_network import ModelSpec, as_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class StoredBackbone(BaseModel):
    """The backbone's class and its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)
    target: str = Field(alias="_target_")


class StoredModel(_Stored):
    """The settings from which the network was built."""

    backbone: StoredBackbone
    head: str
    finetune_depth: int | Literal["all"]
    flip_test: bool = False


class StoredConfig(_Stored):
    """The data, the network and the seed of a run."""

    data: DataSection
    model: StoredModel
    seed: int

    def spec(self, classes: Sequence[str] | None = None) -> ModelSpec:
        """The specification from which a checkpoint's network is built.

        Args:
            classes: the classes that the run stored elsewhere; None for those that the config names.

        Raises:
            UserError: the backbone's class is not allowed, or the config does not fit it.
        """
        backbone = self.model.backbone
        cls = load_backbone(backbone.target, backbone.model_extra or {})
        stages = len(cls().stages)
        return ModelSpec(
            backbone=backbone.target,
            head=self.model.head,
            depth=resolve_depth(self.model.finetune_depth, stages, cls.name),
            size=cls.check_size(self.data.size),
            color=self.data.color,
            classes=self._classes() if classes is None else tuple(classes),
            flip_average=self.model.flip_test,
            arguments=as_pairs(cls.arguments),
        )

    def offline_data(self) -> DataSection:
        """The data section without `download` and `cache`.

        A config from somebody else must not make this machine download a data set or choose the folder of its cache.
        """
        reader = self.data.reader
        arguments = {name: value for name, value in reader.arguments.items() if name not in {"download", "cache"}}
        offline_reader = type(reader).model_validate({"_target_": reader.target, **arguments})
        return self.data.model_copy(update={"reader": offline_reader})

    def _classes(self) -> tuple[str, ...]:
        """The classes of the class folders; CelebA's classes for every other source."""
        named: Any = self.data.reader.arguments.get("classes")
        if isinstance(named, dict):
            named = list(dict.fromkeys(named.values()))
        if isinstance(named, list) and len(named) > 1:
            return tuple(map(str, named))
        return "female", "male"


def parse_config(text: str) -> StoredConfig | None:
    """Parse a run's `config.yaml`; None if it is not a valid config.

    The text may come from an untrusted source. Only `load_class` imports the classes that it names.
    """
    try:
        return StoredConfig.model_validate(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError, ValueError, RecursionError):  # also for invalid dates and endless nesting
        return None
