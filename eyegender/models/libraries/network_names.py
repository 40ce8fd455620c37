"""Which network a name stands for, so that `model.name` names no other network than the one that is built."""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from eyegender.core.config_files import config_folder
from eyegender.core.errors import UserError, one_line

if TYPE_CHECKING:
    from eyegender.models.backbone import Backbone

_log = logging.getLogger(__name__)


def check_label(name: str, cls: type[Backbone]) -> None:
    """Check `model.name` against the backbone that is built; a name that belongs to no network is only a label.

    A backbone of your own may have any label, unless it has the name of a known network itself.

    Args:
        name: the value of `model.name`.
        cls: the class that builds the stages, with the arguments of the config.

    Raises:
        UserError: the name is empty, or is that of another network, which was probably meant.
    """
    built = vars(cls).get("name")  # a subclass that only inherits its name is another network
    if not name.strip():
        raise UserError(f"model.name must not be empty, got {name!r}; set model.name={built or 'NAME'}")
    if built is None or name == built or owner(built) is None:
        return
    if meant := owner(name):
        raise UserError(f"model.name must be {built}, the network that is trained, got {one_line(name)}; set {meant}")
    _mention(f"model.name={one_line(name)} is a label; the network that is trained is {built}")


def owner(name: str) -> str | None:
    """The overrides that choose the network of this name; None if no network has it."""
    if name in fixed_names():
        return f"model={fixed_names()[name]}"
    from eyegender.models.libraries.torchvision_backbone import TorchvisionBackbone

    if name in TorchvisionBackbone.known_names():
        return f"model=torchvision model.name={name}"
    if find_spec("timm") is not None:
        from eyegender.models.libraries.timm_backbone import TimmBackbone

        if name.partition(".")[0] in TimmBackbone.known_names():
            return f"model=timm model.name={name}"
    return None


@cache
def fixed_names() -> dict[str, str]:
    """The config of each backbone whose name is fixed, by that name; imports neither torch nor a library."""
    from omegaconf import OmegaConf

    found: dict[str, str] = {}
    for path in sorted((config_folder("conf") / "model").glob("*.yaml")):
        config: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        name = config.get("name")
        if isinstance(name, str) and name != "???":
            found[name] = path.stem
    return found


@cache  # once per process: a command builds the network several times
def _mention(line: str) -> None:
    _log.warning("%s", line)
