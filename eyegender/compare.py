"""`python -m eyegender.compare`: any number of tracked runs side by side, on a page that stands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("compare", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.objectives import check_mode
    from eyegender.output_place import new_folder
    from eyegender.schema import parse_as
    from eyegender.using.options import CompareOptions

    options = parse_as(cfg, CompareOptions)  # before torch is imported: a mistake shows at once
    check_mode(options.by, options.mode, "by")
    from eyegender.report.comparison_page import FIGURES_FOLDER, MARKDOWN_FILE, PAGE_FILE

    folder = new_folder(options.output, "output", PAGE_FILE, MARKDOWN_FILE, FIGURES_FOLDER)
    from rich.console import Console

    from eyegender.using.comparing import compare_runs
    from eyegender.using.comparison_console import show_comparison
    from eyegender.using.tracking_store import open_store

    show_comparison(compare_runs(open_store(options.tracking), options, folder), Console())


if __name__ == "__main__":
    main()
