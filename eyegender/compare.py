"""`eyegender compare`: compares any number of tracked runs on one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.callable_module import make_callable
from eyegender.core.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from eyegender.comparison.workflow import ComparisonResult
    from eyegender.studies.compare_studies import StudiesResult


def compare_from_config(cfg: DictConfig) -> ComparisonResult | StudiesResult:
    """Compare the runs that a composed config selects, or the studies that it lists, and write and log the page.

    Raises:
        UserError: a value does not fit, no run can be compared, or the page exists.
    """
    from eyegender.core.objectives import check_mode
    from eyegender.core.options import CompareOptions
    from eyegender.core.output_folder import new_folder
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, CompareOptions)  # before torch is imported, so that a mistake is reported at once
    check_mode(options.by, options.mode, "by")
    from eyegender.comparison.page import FIGURES_FOLDER, MARKDOWN_FILE, PAGE_FILE

    folder = new_folder(options.output, "output", PAGE_FILE, MARKDOWN_FILE, FIGURES_FOLDER, overwrite=options.overwrite)
    if isinstance(options.study, list):
        from eyegender.studies.compare_studies import compare_studies

        return compare_studies(options, options.study, folder)
    from eyegender.comparison.workflow import compare_runs
    from eyegender.tracking.tracking_store import open_store

    return compare_runs(open_store(options.tracking), options, folder)


@command("compare", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    result = compare_from_config(cfg)
    from rich.console import Console

    from eyegender.comparison.workflow import ComparisonResult, show_comparison

    if isinstance(result, ComparisonResult):
        show_comparison(result, Console())
    else:
        result.show(Console())


make_callable(__name__, "eyegender.api.comparing.compare")

if __name__ == "__main__":
    main()
