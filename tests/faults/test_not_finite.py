"""Training that goes out of the numbers' range stops at that step and says where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eyegender.errors import UserError
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
