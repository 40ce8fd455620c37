"""A backbone is a list of stages that map an image to the last feature map."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from eyegender.core.allow_list import load_class
from eyegender.core.errors import UserError
from eyegender.core.schema import NO_WEIGHTS
from eyegender.models.weights import DownloadedFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torchvision.models import WeightsEnum

    from eyegender.models.weights import Pretrained


class Backbone(nn.Module):
    """A convolutional network without its classifier, as a list of stages at which fine-tuning can start.

    A subclass has a name, states its input, builds torchvision's network and splits it into stages. Freezing, the
    optimizer's parameter groups, initial weights, the activation store and sweeps need only the list of stages.
    """

    name: ClassVar[str]
    library: ClassVar[str] = "torchvision"  # whose keys a state dict of initial weights has
    arguments: ClassVar[Mapping[str, Any]] = {}  # of `configured`, from which it gives this class
    packages: ClassVar[tuple[str, ...]] = ()  # that the network needs besides those that every one needs
    default_size: ClassVar[int]  # side of the square input in pixels for which the network was published
    min_size: ClassVar[int]  # smallest side that leaves every stage at least one pixel
    channels: int  # channels of the last feature map
    mean: ClassVar[tuple[float, float, float]]  # per channel, of pixels scaled to 0..1, as in pre-training
    std: ClassVar[tuple[float, float, float]]  # likewise
    classifier_prefixes: ClassVar[tuple[str, ...]]  # prefixes of the state dict's keys that belong to no stage

    def __init__(self) -> None:
        super().__init__()
        network = self.torchvision_network()
        self.take_stages(network, self.named_stages(network))

    def take_stages(self, network: nn.Module, stages: Iterable[tuple[str, nn.Module]]) -> None:
        """Keep the stages of `network`, and the names that it gives to their parameters and buffers."""
        self.stages = nn.Sequential(OrderedDict(stages))
        names = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
        own = self.stages.state_dict(keep_vars=True)
        self.library_keys = {name: names[id(tensor)] for name, tensor in own.items() if id(tensor) in names}
        self.other_keys = frozenset(names.values()) - frozenset(self.library_keys.values())

    @classmethod
    def configured(cls, arguments: Mapping[str, Any]) -> type[Backbone]:
        """The class with the arguments of the config: this one, since it takes none; raises UserError for any."""
        if arguments:
            raise UserError(f"model.backbone takes no arguments, got {sorted(arguments)}; remove them")
        return cls

    @classmethod
    def torchvision_network(cls) -> nn.Module:
        """torchvision's complete network with random weights."""
        raise NotImplementedError

    @classmethod
    def named_stages(cls, network: nn.Module) -> list[tuple[str, nn.Module]]:
        """The stages of `network` with their names, in forward order; they share the parameters of `network`."""
        raise NotImplementedError(f"{cls.__name__} must define named_stages, which version 0.1 called cut")

    @classmethod
    def imagenet(cls) -> WeightsEnum:
        """torchvision's entry for the ImageNet weights, which holds their address and checksum."""
        raise NotImplementedError

    @classmethod
    def pretrained(cls, choice: str) -> Pretrained | None:
        """The published weights for a value of `model.weights`; None if it is the path of a file."""
        return DownloadedFile(str(cls.imagenet().url)) if choice in {"auto", "imagenet"} else None

    @classmethod
    def check_weights(cls, choice: str) -> None:
        """Raises UserError if `choice` is no file, and names the published weights that could be meant."""
        if not Path(choice).expanduser().is_file():
            raise UserError(NO_WEIGHTS.format(choice))

    @staticmethod
    def current_keys(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A state dict of the library with the keys of its present version."""
        return state

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (B, 3, S, S) to the last feature map (B, channels, S', S')."""
        features: Tensor = self.stages(x)
        return features

    @classmethod
    def check_size(cls, size: int) -> int:
        """The side of the input in pixels: `size`, or the backbone's default if `size` is 0.

        Raises:
            UserError: `size` is so small that a stage would have no pixel left.
        """
        if size and size < cls.min_size:
            raise UserError(
                f"{cls.name} needs images of at least {cls.min_size}x{cls.min_size} pixels, got {size}; "
                f"set data.size={cls.min_size} or more"
            )
        return size or cls.default_size


def load_backbone(target: str, arguments: Mapping[str, Any]) -> type[Backbone]:
    """The class at the dotted path `target`, with its arguments; it is called without any.

    Raises:
        UserError: the class is not allowed, or an argument is wrong.
    """
    return load_class(target, Backbone).configured(arguments)


def resolve_depth(finetune_depth: int | str, stages: int, name: str) -> int:
    """The number of stages to train, counted from the last one.

    Raises:
        UserError: `finetune_depth` is neither `all` nor a number in 0..stages.
    """
    if finetune_depth == "all":
        return stages
    try:
        depth = int(finetune_depth)
    except ValueError:
        depth = -1
    if not 0 <= depth <= stages:
        raise UserError(
            f"finetune_depth must be 0..{stages} for {name} or 'all', got {finetune_depth}; set model.finetune_depth"
        )
    return depth
