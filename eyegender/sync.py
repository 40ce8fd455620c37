"""`eyegender sync`: sends what runs could not send while their tracking store was unreachable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.command import command
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("sync", groups=())
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import SyncOptions
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, SyncOptions)
    folders = [Path(options.folder)] if options.folder else [Path("outputs"), Path("multirun")]
    if options.folder and not folders[0].is_dir():
        raise UserError(f"folder must be a run's output folder or one above, got {options.folder}; correct folder=")
    from eyegender.tracking.sender import pending, send

    unsent = [folder for parent in folders for folder in pending(parent)]
    for folder in unsent:
        entries, run_id = send(folder, options.uri or os.environ.get("MLFLOW_TRACKING_URI"))
        print(f"{folder}: sent {entries} entries to run {run_id}")
    if not unsent:
        print(f"nothing to send below {' and '.join(map(str, folders))}")


if __name__ == "__main__":
    main()
