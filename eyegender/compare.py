"""`python -m eyegender.compare`: any number of tracked runs side by side, on a page that stands alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("compare", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.schema import parse_as
    from eyegender.using.options import CompareOptions

    options = parse_as(cfg, CompareOptions)  # before torch is imported: a mistake shows at once
    from rich.console import Console

    from eyegender.using.comparing import compare_runs
    from eyegender.using.comparison_console import show_comparison
    from eyegender.using.tracking_store import open_store

    show_comparison(compare_runs(open_store(options.tracking), options, Path(options.output)), Console())


if __name__ == "__main__":
    main()
