"""`eyegender compare`: compares any number of tracked runs on one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("compare", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.core.objectives import check_mode
    from eyegender.core.options import CompareOptions
    from eyegender.core.output_folder import new_folder
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, CompareOptions)  # before torch is imported, so that a mistake is reported at once
    check_mode(options.by, options.mode, "by")
    from eyegender.comparison.page import FIGURES_FOLDER, MARKDOWN_FILE, PAGE_FILE

    folder = new_folder(options.output, "output", PAGE_FILE, MARKDOWN_FILE, FIGURES_FOLDER, overwrite=options.overwrite)
    from rich.console import Console

    from eyegender.comparison.workflow import compare_runs, show_comparison
    from eyegender.tracking.tracking_store import open_store

    show_comparison(compare_runs(open_store(options.tracking), options, folder), Console())


if __name__ == "__main__":
    main()
