from __future__ import annotations

import sys
from types import ModuleType

import pytest

from eyegender.allowed import load_class
from eyegender.errors import UserError
from eyegender.models.backbone import Backbone
from eyegender.models.mobilenet_v2 import MobileNetV2


def test_ours_are_built() -> None:
    assert load_class("eyegender.models.mobilenet_v2.MobileNetV2", Backbone) is MobileNetV2


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.eval", "torch.load", "eyegenderx.A", ""])
def test_strangers_are_not(path: str) -> None:
    with pytest.raises(UserError, match="only classes of eyegender are"):
        load_class(path, object)


@pytest.mark.parametrize("path", ["eyegender.models.heads.LinearHead", "eyegender.schema.parse", "eyegender.nowhere.X"])
def test_ours_of_another_kind_are_not(path: str) -> None:
    with pytest.raises(UserError, match="is no Backbone|no class"):
        load_class(path, Backbone)


def test_what_ours_import_is_not_ours() -> None:
    with pytest.raises(UserError, match="is not built: it is pathlib's"):
        load_class("eyegender.tracking.location.Path", object)


def test_a_users_own_package_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_eyes")
    module.Mine = type("Mine", (MobileNetV2,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_eyes", module)
    with pytest.raises(UserError, match="EYEGENDER_PLUGINS"):
        load_class("my_eyes.Mine", Backbone)
    monkeypatch.setenv("EYEGENDER_PLUGINS", "other,my_eyes")
    assert load_class("my_eyes.Mine", Backbone) is module.Mine
