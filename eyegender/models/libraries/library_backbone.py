"""A backbone whose network is one of a library's, chosen by its name."""

from __future__ import annotations

import difflib
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from eyegender.core.errors import UserError
from eyegender.models.backbone import Backbone
from eyegender.models.libraries.calls import observe
from eyegender.models.libraries.stages import NoChainError, build_stages, group_layers, is_equal, open_layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eyegender.models.libraries.calls import Call

BY_HAND = "write its stages as a class, see docs/extending.md"
_SIZES = (64, 96, 128)  # of the image that shows what a forward pass calls; most networks accept the first


class Input(NamedTuple):
    """What a network's weights expect: side of the image in pixels, and mean and deviation of pixels in 0..1."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class LibraryBackbone(Backbone):
    """One of a library's networks, whose stages follow from what its forward pass calls.

    `configured` gives the class of one network. Building it raises UserError if the forward pass is no chain.
    """

    # The arguments that give this class: the network's name, and its mean and deviation.
    arguments: ClassVar[Mapping[str, Any]]

    def __init__(self) -> None:
        nn.Module.__init__(self)
        network = self.build().eval()
        try:
            image, root = self._observed(network)
            layers, features = self.features(root)
            stages = _completed(build_stages(group_layers(open_layers(layers))), image, features)
        except NoChainError as error:
            raise UserError(f"{self.name} cannot be divided into stages: {error}; {BY_HAND}") from error
        self.take_stages(network, stages)
        with torch.no_grad():
            self.channels = int(self.stages(image).shape[1])
        network.train()

    @classmethod
    def configured(cls, arguments: Mapping[str, Any]) -> type[Self]:
        """The class of a network.

        Args:
            arguments: `name` of the network; `weights` as in the config, whose size and normalization are used;
                `mean` and `std` instead of those, three numbers each.

        Raises:
            UserError: the library has no such network or weights, or an argument is wrong.
        """
        unknown = sorted(arguments.keys() - {"name", "weights", "mean", "std"})
        if unknown:
            raise UserError(f"model.backbone takes name, weights, mean and std, got {unknown}; remove them")
        name, weights = arguments.get("name"), arguments.get("weights")
        if not isinstance(name, str) or not name:
            raise UserError(f"model.name must be the name of a network of {cls.library}, got {name!r}; set model.name")
        mean, std = (_three_numbers(key, arguments.get(key)) for key in ("mean", "std"))
        return cls._configured(name, None if weights is None else str(weights), mean, std)

    @classmethod
    @cache  # one class for one network, so that equal configs have equal classes
    def _configured(
        cls,
        name: str,
        weights: str | None,
        mean: tuple[float, float, float] | None,
        std: tuple[float, float, float] | None,
    ) -> type[Self]:
        cls.check_name(name)
        expected = cls.expected_input(name, weights)
        mean, std = mean or expected.mean, std or expected.std
        fields = {
            "__module__": cls.__module__,
            "name": name,
            "default_size": expected.size,
            "mean": mean,
            "std": std,
            "arguments": {"name": name, "mean": list(mean), "std": list(std)},
        }
        return type(cls.__name__, (cls,), fields)

    @classmethod
    def known_names(cls) -> frozenset[str]:
        """The names of the library's networks; raises UserError if it is not installed."""
        raise NotImplementedError

    @classmethod
    def check_name(cls, name: str) -> None:
        """Raises UserError if the library has no network of this name, or if it is not installed."""
        check_known(name, cls.known_names(), cls.library)

    @classmethod
    def expected_input(cls, name: str, weights: str | None) -> Input:
        """What published weights expect: those that `weights` names, or else those of `imagenet`."""
        raise NotImplementedError

    @classmethod
    def weights_names(cls) -> Sequence[str]:
        """The names of the network's published weights."""
        raise NotImplementedError

    @classmethod
    def check_weights(cls, choice: str) -> None:
        if not Path(choice).expanduser().is_file():
            raise UserError(
                f"model.weights: no file {choice}, and {cls.library} has no weights of that name for {cls.name}, only "
                f"{', '.join(cls.weights_names()) or 'none'}; give one of them, a file, imagenet, auto or null"
            )

    @classmethod
    def build(cls) -> nn.Module:
        """The complete network with random weights."""
        raise NotImplementedError

    @staticmethod
    def run(network: nn.Module, image: Tensor) -> Any:
        """The forward pass, or the part of it that ends with the features."""
        return network(image)

    @classmethod
    def features(cls, root: Call) -> tuple[list[Call], Tensor]:
        """The chain of calls from the image to the last feature map, and what the stages must give.

        The latter may be the features after pooling to k x k pixels, flattened.

        Raises:
            NoChainError: there is no such chain.
        """
        raise NotImplementedError

    @classmethod
    def check_size(cls, size: int) -> int:
        """The side of the input in pixels: `size`, or that of the weights if `size` is 0.

        Raises:
            UserError: the network cannot process images of this size.
        """
        if size and size != cls.default_size and (fault := cls._fault(size)):
            raise UserError(
                f"{cls.name} cannot process images of {size}x{size} pixels ({fault}); set "
                f"data.size={cls.default_size}, or another size"
            )
        return size or cls.default_size

    @classmethod
    @cache
    def _fault(cls, size: int) -> str | None:
        """Why the network cannot process images of this size, or None."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            try:
                with torch.device("meta"):  # only shapes are computed
                    cls.run(cls.build().eval(), torch.zeros(1, 3, size, size))
            except Exception:
                try:
                    cls.run(cls.build().eval(), torch.zeros(1, 3, size, size))
                except (RuntimeError, AssertionError, ValueError) as error:
                    return _first_line(error)
        return None

    @classmethod
    def _observed(cls, network: nn.Module) -> tuple[Tensor, Call]:
        """A small image, and the forward pass of it."""
        generator = torch.Generator().manual_seed(0)  # the run's own random numbers stay as they are
        for size in (*(size for size in _SIZES if size < cls.default_size), cls.default_size):
            image = torch.randn(1, 3, size, size, generator=generator)
            try:
                return image, observe(network, lambda x: cls.run(network, x), image)
            except (RuntimeError, AssertionError, ValueError) as error:  # too small, or the only size is its own
                if size == cls.default_size:
                    raise NoChainError(f"it does not run ({_first_line(error)})") from error
        raise AssertionError("unreachable")


def _completed(stages: list[tuple[str, nn.Module]], image: Tensor, wanted: Tensor) -> list[tuple[str, nn.Module]]:
    """The stages, if they give the features of the network; a last ReLU is added if only that is missing.

    DenseNet applies it as a function.

    Raises:
        NoChainError: they give something else.
    """
    with torch.no_grad():
        features = nn.Sequential(*(stage for _, stage in stages))(image.clone())
        if is_equal(pooled_like(features, wanted), wanted):
            return stages
        if is_equal(pooled_like(features.relu(), wanted), wanted):
            name, last = stages[-1]
            return [*stages[:-1], (name, nn.Sequential(last, nn.ReLU()))]
    raise NoChainError("its stages do not give the features that its own forward pass gives")


def pooled_like(features: Tensor, wanted: Tensor) -> Tensor:
    """The features averaged to as many pixels as `wanted` has, in its shape."""
    pixels = wanted[0].numel() / features.shape[1]
    side = math.isqrt(int(pixels))
    if features.shape == wanted.shape or side < 1 or side * side != pixels:
        return features
    return nn.functional.adaptive_avg_pool2d(features, side).reshape(wanted.shape)


def check_known(name: str, known: Iterable[str], library: str) -> None:
    """Raises UserError if `name` is not among the known ones; names the most similar ones."""
    names = sorted(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        like = f"; did you mean {' or '.join(near)}?" if near else f", which has {', '.join(names[:3])} and others"
        raise UserError(f"model.name must be a classification network of {library}, got {name!r}{like}")


def _three_numbers(key: str, value: Any) -> tuple[float, float, float] | None:
    if value is None:
        return None
    numbers = list(value) if isinstance(value, list | tuple) else []
    valid = all(isinstance(x, int | float) and math.isfinite(x) and (key == "mean" or x > 0) for x in numbers)
    if len(numbers) != 3 or not valid:
        what = "three numbers" if key == "mean" else "three numbers above 0"
        raise UserError(f"model.backbone.{key} must be {what} or null, got {value!r}; set model.backbone.{key}")
    return (float(numbers[0]), float(numbers[1]), float(numbers[2]))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
