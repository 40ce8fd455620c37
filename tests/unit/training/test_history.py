from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from eyegender.tracking.names import stored_name
from eyegender.training.callbacks import EpochHistory


def test_a_resumed_run_sends_the_epochs_before_its_checkpoint_again() -> None:
    """The tracking store ignores values that it already has, and it may have lost the run."""
    sent: list[tuple[dict[str, float], int]] = []
    tracker: Any = SimpleNamespace(log_metrics=lambda values, step: sent.append((values, step)))
    history = EpochHistory(tracker)
    history.load_state_dict({"history": [{"epoch": float(n), "val/loss": 1.0 / n} for n in (1, 2, 3)]})
    trainer: Any = SimpleNamespace(current_epoch=2)  # the third was interrupted
    history.on_train_start(trainer, None)
    assert sent == [({stored_name("val/loss"): 1.0}, 1), ({stored_name("val/loss"): 0.5}, 2)]
