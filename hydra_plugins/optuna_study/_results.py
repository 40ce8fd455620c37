"""`optimization_results.yaml`, with hydra-optuna-sweeper's keys."""

from pathlib import Path

from omegaconf import OmegaConf

from ._status import StudyStatus


def write_results(status: StudyStatus, sweep_dir: str) -> Path | None:
    """Write the best parameters and value, or the Pareto front; nothing when no trial completed."""
    if not status.best:
        return None
    if len(status.directions) == 1:
        best = status.best[0]
        results = {"name": "optuna", "best_params": dict(best.params), "best_value": best.values[0]}
    else:
        front = [{"params": dict(row.params), "values": list(row.values)} for row in status.best]
        results = {"name": "optuna", "solutions": front}
    path = Path(sweep_dir) / "optimization_results.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(results), path)
    return path
