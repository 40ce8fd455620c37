"""`eyegender train`: trains and tracks a run, and tests its best checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig

from eyegender.core.callable_module import make_callable
from eyegender.core.command import command
from eyegender.core.imports import imports_of_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig
    from pytorch_lightning import Callback

    from eyegender.training.summary import RunResult


def train_job(cfg: DictConfig, *, callbacks: Sequence[Callback] = ()) -> RunResult:
    """Train the network of a composed config in the output folder of the current Hydra job."""
    from eyegender.core.schema import parse
    from eyegender.data.readers import check_source
    from eyegender.training.classes import with_classes
    from eyegender.training.hydra_callbacks import check_single_run

    check_single_run(HydraConfig.get())
    parsed = parse(cfg)  # before torch is imported, so that a mistake is reported at once
    check_source(parsed.data, to_train=True)
    parsed = with_classes(parsed)
    with imports_of_command():
        from eyegender.training.run import train
    from hydra_plugins.optuna_study import raw_overrides

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    return train(parsed, folder, overrides=raw_overrides(hydra), callbacks=callbacks)


@command("train")
def main(cfg: DictConfig) -> float | tuple[float, ...]:
    """Hydra's entry point; returns the objective values of a sweep's trial."""
    result = train_job(cfg)
    names = cfg.objectives
    return result.objective(None if names is None else list(names))


make_callable(__name__, "eyegender.api.training.train")

if __name__ == "__main__":
    main()
