"""Training that goes out of the numbers' range stops at that step and says where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eyegender.core.errors import UserError
from eyegender.models.classifier import Classifier
from eyegender.training.run import train
from tests.composing import tiny_config

pytestmark = pytest.mark.integration


def test_a_gradient_beyond_the_range_stops_the_run_although_its_loss_is_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Classifier.on_train_start

    def steep(self: Classifier) -> None:
        plain(self)
        with torch.no_grad():  # logits stay as they are, and gradients before the head become 1e30 times larger
            self.network.stages[-1][1].weight.mul_(1e-30)
            self.network.stages[-1][1].bias.mul_(1e-30)
            for parameter in self.network.head.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(1e30)

    monkeypatch.setattr(Classifier, "on_train_start", steep)
    with pytest.raises(
        UserError, match=r"^gradient is not finite at step 0 with learning rate [\d.e-]+; lower model.lr.*: \d+"
    ) as told:
        train(tiny_config("trainer.gradient_clip=null", "run_test=false"), tmp_path / "out")
    assert len(told.value.details) == 15  # the names of all pictures of the batch


ONE_STEP = ("trainer.batch_size=64", "trainer.max_epochs=1", "model.finetune_depth=0", "features=off")


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        ("the weights", "largest weight"),
        ("validation", "val loss"),
        ("the test", "test loss"),
    ],
)
def test_weights_that_the_last_step_has_spoilt_are_told_with_step_rate_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: str, told: str
) -> None:
    plain = Classifier._logits

    def logits(self: Classifier, inputs: torch.Tensor, *, is_features: bool) -> torch.Tensor:
        stage = {"validation": self.trainer.validating, "the test": self.trainer.testing}
        return plain(self, inputs, is_features=is_features) * (torch.inf if stage.get(spoilt, False) else 1)

    def spoil(self: Classifier, *_: object) -> None:
        if spoilt == "the weights":  # which no picture needs to show: a variance that is infinite gives zeros
            self.network.stages[-1][1].running_var.fill_(torch.inf)

    monkeypatch.setattr(Classifier, "_logits", logits)
    monkeypatch.setattr(Classifier, "on_train_batch_end", spoil)
    with pytest.raises(
        UserError, match=rf"^{told} is not finite at step 0 with learning rate [\d.e-]+; lower model.lr.*: \d+"
    ) as error:
        train(tiny_config(*ONE_STEP), tmp_path / "out")
    assert len(error.value.details) > 1
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert not [name for name in left if name.startswith(".")]
    assert not {"metrics.json", "test_predictions.json"} & left


def test_a_rate_that_spoils_the_weights_in_the_only_step_is_told(tmp_path: Path) -> None:
    over = ("model.lr=1e30", "model.finetune_depth=all", "trainer.gradient_clip=null")
    with pytest.raises(UserError, match=r"is not finite at step 0 with learning rate .*e\+\d+; lower model.lr"):
        train(tiny_config(*ONE_STEP, *over), tmp_path / "out")


@pytest.mark.parametrize("decay", ["0", "1e30"])
def test_a_step_that_is_larger_than_any_number_of_a_weight_is_told(tmp_path: Path, decay: str) -> None:
    over = ("model.lr=3e38", f"optimizer.weight_decay={decay}", "scheduler=constant", "model.finetune_depth=0")
    with pytest.raises(UserError, match=r"^step is not finite at step 0 with learning rate 3e\+38; lower model.lr"):
        train(tiny_config(*ONE_STEP, *over), tmp_path / "out")


@pytest.mark.parametrize("key", ["lr", "head_lr", "mixup", "pos_weight"])
def test_a_number_that_is_infinite_for_a_network_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=rf"model.{key} must be at most 3.4e\+38, got 1e\+39"):
        tiny_config(f"model.{key}=1e39")


def test_an_optimizers_number_that_is_infinite_for_a_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer .*takes numbers up to 3.4e\+38, got weight_decay=1e\+39"):
        tiny_config("optimizer.weight_decay=1e39")
