"""`python -m eyegender.sync`: send what runs could not send while their tracking store was away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.command import command
from eyegender.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("sync")
def main(cfg: DictConfig) -> None:
    from eyegender.tracking.replay import pending, send

    folders = [Path(cfg.folder)] if cfg.folder else [Path("outputs"), Path("multirun")]
    if cfg.folder and not folders[0].is_dir():
        raise UserError(f"folder must be a run's output folder or one above, got {cfg.folder}; correct folder=")
    found = [journal for folder in folders for journal in pending(folder)]
    for folder in found:
        sent, run_id = send(folder, cfg.uri or os.environ.get("MLFLOW_TRACKING_URI"))
        print(f"{folder}: sent {sent} entries to run {run_id}")
    if not found:
        print(f"nothing to send below {' and '.join(map(str, folders))}")


if __name__ == "__main__":
    main()
