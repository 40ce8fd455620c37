"""`python -m eyegender.study name=...`: a study's state at any time, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from eyegender.command import command
from eyegender.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("study")
def main(cfg: DictConfig) -> None:
    if OmegaConf.is_missing(cfg, "name"):
        raise UserError("name must be given and has no default; add name=STUDY")
    import optuna

    from eyegender.studies.report import write_report
    from eyegender.studies.status_table import show
    from hydra_plugins.optuna_study import load_study, study_status

    status = study_status(cfg.storage, cfg.name)
    show(status)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = load_study(cfg.storage, cfg.name)
    folder = Path(cfg.folder or f"multirun/{cfg.name}")
    print(f"Report   {write_report(study, status, folder)}")


if __name__ == "__main__":
    main()
