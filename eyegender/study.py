"""`eyegender study name=...`: shows the state of a study at any time, and writes its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig

REPORT_FOLDER = "report"


@command("study", groups=())
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import StudyOptions
    from eyegender.core.output_folder import new_folder, remove_old
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, StudyOptions)  # before Optuna is imported, so that a mistake is reported at once
    folder = new_folder(options.output, "output", REPORT_FOLDER, overwrite=options.overwrite)
    import optuna

    from eyegender.studies.report import write_report
    from eyegender.studies.selection_bias import selection_bias
    from eyegender.studies.status_table import show_status
    from hydra_plugins.optuna_study import load_study, study_status

    status = study_status(options.storage, options.name)
    show_status(status)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = load_study(options.storage, options.name)
    if options.overwrite:
        remove_old(folder, REPORT_FOLDER)
    bias = selection_bias(study, status, folder)
    for sentence in () if bias is None else bias.sentences:
        print(f"         {sentence}")
    print(f"Report   {write_report(study, status, folder, bias=bias)}")


if __name__ == "__main__":
    main()
