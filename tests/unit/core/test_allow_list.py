from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eyegender.core.allow_list import load_class
from eyegender.core.errors import UserError
from eyegender.models.backbone import Backbone
from eyegender.models.mobilenet_v2 import MobileNetV2

ROOT = Path(__file__).parents[3]


def test_classes_of_eyegender_are_built() -> None:
    assert load_class("eyegender.models.mobilenet_v2.MobileNetV2", Backbone) is MobileNetV2


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.eval", "torch.load", "eyegenderx.A", ""])
def test_classes_of_other_packages_are_refused(path: str) -> None:
    with pytest.raises(UserError, match="only classes of eyegender are"):
        load_class(path, object)


@pytest.mark.parametrize(
    "path", ["eyegender.models.heads.LinearHead", "eyegender.core.schema.parse", "eyegender.nowhere.X"]
)
def test_other_objects_of_eyegender_are_refused(path: str) -> None:
    with pytest.raises(UserError, match="is no Backbone|no class"):
        load_class(path, Backbone)


def test_a_class_that_eyegender_only_imports_is_refused() -> None:
    with pytest.raises(UserError, match="is not built: it is pathlib's"):
        load_class("eyegender.tracking.location.Path", object)


def test_the_package_of_a_user_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_eyes")
    module.Mine = type("Mine", (MobileNetV2,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_eyes", module)
    with pytest.raises(UserError, match="EYEGENDER_PLUGINS"):
        load_class("my_eyes.Mine", Backbone)
    monkeypatch.setenv("EYEGENDER_PLUGINS", "other,my_eyes")
    assert load_class("my_eyes.Mine", Backbone) is module.Mine


OF_TORCH = {"torch.optim.SGD": Optimizer, "torch.optim.lr_scheduler.StepLR": LRScheduler}


@pytest.mark.parametrize(("path", "base"), OF_TORCH.items())
def test_optimizers_and_schedulers_of_torch_are_built(path: str, base: type) -> None:
    assert issubclass(load_class(path, base, "torch.optim"), base)


@pytest.mark.parametrize(
    "path",
    ["torch.load", "torch.optimx.SGD", "torch.nn.Linear", "os.system", "eyegender.models.heads.LinearHead",
     "torch.optim", "torch.optim.lr_scheduler.StepLR", "torch.optim.Optimizer.step", "torch.optim.adamw.Tensor",
     "torch.optim.lr_scheduler.Counter", "torch.optim.lr_scheduler.warnings.warn"],
)  # fmt: skip
def test_nothing_else_is_built_as_an_optimizer(path: str) -> None:
    with pytest.raises(UserError):
        load_class(path, Optimizer, "torch.optim")


PLANTED = (
    "+{0}.nested={{_target_: os.system, command: true}}", "+{0}._args_=[1]", "+{0}._recursive_=true",
    "+{0}.callable={{a: 1}}", "+{0}.list=[{{_target_: os.system}}]", "{0}._partial_=false", "+{0}.eps2=inf",
)  # fmt: skip
PARSE_EACH = """
import sys
from tests.composing import TINY, compose_config
from eyegender.core.errors import UserError
from eyegender.core.schema import parse
for planted in sys.argv[1:]:
    try:
        parse(compose_config(*TINY, planted))
    except UserError as error:
        print("refused", error)
    else:
        print("parsed")
print("torch" in sys.modules)
"""


def test_arguments_that_would_run_code_are_refused_before_torch_is_imported() -> None:
    planted = [override.format(group) for override in PLANTED for group in ("optimizer", "scheduler")]
    done = subprocess.run(
        [sys.executable, "-c", PARSE_EACH, *planted], capture_output=True, text=True, cwd=ROOT, check=True
    )
    *lines, imported = done.stdout.splitlines()
    assert imported == "False"
    assert [line for line in lines if not line.startswith("refused")] == []
    assert len(lines) == len(planted)
