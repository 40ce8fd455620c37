from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from eyegender.training.epochs import Epochs


def test_a_run_that_goes_on_tells_the_epochs_before_its_checkpoint_once_more() -> None:
    """The store drops what it holds; one that has lost the run would otherwise never hear of them."""
    told: list[tuple[dict[str, float], int]] = []
    tracker: Any = SimpleNamespace(metrics=lambda values, step: told.append((values, step)))
    epochs = Epochs(tracker)
    epochs.load_state_dict({"history": [{"epoch": float(n), "val/loss": 1.0 / n} for n in (1, 2, 3)]})
    trainer: Any = SimpleNamespace(current_epoch=2)  # the third was interrupted
    epochs.on_train_start(trainer, None)
    assert told == [({"val/loss": 1.0}, 1), ({"val/loss": 0.5}, 2)]
