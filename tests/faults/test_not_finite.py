"""Training that goes out of the numbers' range stops at that step and says where."""

from __future__ import annotations

import re
from pathlib import Path

import optuna
import pytest
import torch

from eyegender.errors import UserError
from eyegender.models.classifier import Classifier
from eyegender.training.run import train
from tests.composing import TINY, tiny_config
from tests.processes import Command

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


def test_such_a_trial_is_failed_with_that_reason(tmp_path: Path) -> None:
    sweep = Command(
        "eyegender.train", "-m", *TINY, "+sweeps=finetune", "model.lr=choice(1e30)", "trainer.gradient_clip=null",
        "hydra.sweeper.n_trials=1", "hydra.sweeper.storage=sqlite:///study.db",
    )  # fmt: skip
    output, _ = sweep.communicate(timeout=300)
    assert "Traceback" not in output
    [trial] = optuna.load_study(study_name="finetune", storage="sqlite:///study.db").trials
    assert trial.state.name == "FAIL"
    assert re.match(r"(UserError: )?(loss|gradient) is not finite at step \d+ with", trial.user_attrs["failure"])
