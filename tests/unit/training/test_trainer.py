from __future__ import annotations

import pytest

from eyegender.errors import UserError
from eyegender.training.build import build_trainer, trainer_arguments
from tests.composing import tiny_config


@pytest.mark.parametrize("override", ["accelerator=abacus", "strategy=luck"])
def test_what_lightning_does_not_know_is_one_line(override: str) -> None:
    with pytest.raises(UserError, match="^trainer: .*; correct trainer.precision"):
        build_trainer(trainer_arguments(tiny_config(f"trainer.{override}")), logger=False)
