"""`model.name` must not name another network than the one that is trained."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from eyegender.core.errors import UserError
from eyegender.models.backbone import Backbone
from eyegender.models.inception_v3 import InceptionV3
from eyegender.models.libraries import network_names
from eyegender.models.libraries.network_names import check_label, fixed_names, owner
from eyegender.models.libraries.torchvision_backbone import TorchvisionBackbone
from eyegender.models.mobilenet_v2 import MobileNetV2
from eyegender.training.build import build_network
from tests.composing import tiny_config

if TYPE_CHECKING:
    from collections.abc import Mapping

RESNET34 = TorchvisionBackbone.configured({"name": "resnet34"})


class MyNet(Backbone):
    name = "my_net"


class MyMobileNet(MobileNetV2):
    """A subclass that keeps the name that it inherits."""


@pytest.mark.parametrize(
    ("name", "cls", "repair"),
    [
        ("densenet121", MobileNetV2, "set model=torchvision model.name=densenet121"),
        ("inception_v3", MobileNetV2, "set model=inception_v3"),
        ("mobilenet_v2", InceptionV3, "set model=mobilenet_v2"),
        ("resnet18", RESNET34, "set model=torchvision model.name=resnet18"),  # model.backbone.name=resnet34
        ("", InceptionV3, "not be empty, got ''; set model.name=inception_v3"),
        (" ", MyNet, "not be empty, got ' '; set model.name=my_net"),
    ],
)
def test_the_name_of_another_network_is_refused(name: str, cls: type[Backbone], repair: str) -> None:
    with pytest.raises(UserError, match=f"^model.name must .*{repair}$"):
        check_label(name, cls)


@pytest.mark.skipif(find_spec("timm") is None, reason="needs timm")
@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet50.a1_in1k"])
def test_the_name_of_a_network_of_timm_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"got {name}; set model=timm model.name={name}$"):
        check_label(name, MobileNetV2)


@pytest.mark.parametrize(
    ("name", "cls"),
    [("mobilenet_v2", MobileNetV2), ("resnet34", RESNET34), ("densenet121", MyNet), ("resnet18", MyMobileNet)],
)
def test_the_own_name_and_every_label_of_an_own_backbone_are_accepted(
    name: str, cls: type[Backbone], caplog: pytest.LogCaptureFixture
) -> None:
    check_label(name, cls)
    assert not caplog.messages


def test_a_label_that_is_no_network_is_said_to_be_one(caplog: pytest.LogCaptureFixture) -> None:
    network_names._mention.cache_clear()
    for _ in range(2):
        check_label("resnot18", MobileNetV2)
    assert caplog.messages == ["model.name=resnot18 is a label; the network that is trained is mobilenet_v2"]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_run_is_refused_and_a_run_that_goes_on_is_not() -> None:
    cfg = tiny_config("model.name=vgg11")
    with pytest.raises(UserError, match="got vgg11; set model=torchvision model.name=vgg11"):
        build_network(cfg)
    assert build_network(cfg, fresh=False).network.stages  # it began with an earlier version


def test_each_choice_of_model_owns_its_name() -> None:
    names: Mapping[str, str] = fixed_names()
    assert names == {"inception_v3": "inception_v3", "mobilenet_v2": "mobilenet_v2"}
    assert owner("no_such_network") is None


def test_the_fixed_names_are_known_without_torch() -> None:
    code = (
        "import sys; from eyegender.models.libraries.network_names import fixed_names; fixed_names(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
