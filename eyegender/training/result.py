"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.models.model_costs import costs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytorch_lightning as pl

    from eyegender.models.classifier import Classifier
    from eyegender.models.saved_network import ModelSpec
    from eyegender.training.epochs import History


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Args:
        score: best value of the monitored validation metric.
        metrics: the best epoch's train/ and val/ metrics, and test/ where the test part was touched.
        history: one row of metrics per epoch.
        output_dir: holds metrics.json and checkpoints/.
        run_id: in MLflow, None while its store is away.
        card: what network it is.
        module: with the best checkpoint's weights.
        trainer: Lightning's.
    """

    score: float
    metrics: dict[str, float]
    history: History
    output_dir: Path
    run_id: str | None
    card: ModelSpec
    module: Classifier
    trainer: pl.Trainer

    def objective(self, names: Sequence[str] | None) -> float | tuple[float, ...]:
        """What a sweep judges the run by: `score`, or the named values in order.

        Raises:
            UserError: no such validation metric.
        """
        if names is None:
            return self.score
        known = dict(self.metrics)
        if {"latency_ms", "parameters"} & set(names):
            parameters, _, milliseconds = costs(self.card, latency="latency_ms" in names)
            known |= {"parameters": float(parameters)} | ({} if milliseconds is None else {"latency_ms": milliseconds})
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"objectives: no metric {unknown[0]}; known: {', '.join(sorted(known))}")
        return tuple(known[name] for name in names)
