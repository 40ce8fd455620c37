"""`eyegender export-report run=ID`: a folder with a run's report, model card and model, to be passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.command import command
from eyegender.core.imports import imports_of_command

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig

    from eyegender.core.options import ExportReportOptions
    from eyegender.inference.load import LoadedModel
    from eyegender.tracking.tracking_store import TrackingStore

REPORT_FILE, NETWORK_FOLDER, ONNX_FILE = "report.html", "network", "model.onnx"


def export_report(options: ExportReportOptions) -> tuple[Path, list[str]]:
    """Write the folder; returns it, and a line for each thing that it does not have.

    Raises:
        UserError: there is no such run, it trained nothing, or the folder cannot be written or has a report already.
    """
    with imports_of_command():
        from datetime import UTC, datetime

        from eyegender.comparison.run_record import load_record
        from eyegender.comparison.selection import SelectedRun
        from eyegender.core.errors import UserError
        from eyegender.core.output_folder import new_folder, remove_old
        from eyegender.models.saved_network import save_network
        from eyegender.registry import shared_report
        from eyegender.registry.model_card import CARD_FILE
        from eyegender.registry.promotion import how_chosen
        from eyegender.tracking.tracking_store import is_training, open_store

    written = (REPORT_FILE, CARD_FILE, NETWORK_FOLDER, ONNX_FILE)
    folder = new_folder(options.output, "output", *written, overwrite=options.overwrite)
    store = open_store(options.tracking)
    run = store.run(options.run)
    if not is_training(run):
        raise UserError(f"run {options.run} trained no network; give the id of a training run")
    missing: list[str] = []
    model = _model(store, options, missing)
    record = load_record(store, SelectedRun(run), "val/accuracy", latency=False)
    if record.lost:
        raise UserError(f"run {options.run} {record.lost}; put its artifacts back there, or train it again")
    classes = _classes(store, options.run, model)
    named = None if model is None else "FOLDER"
    card = shared_report.card_text(record, classes, folder=named, chosen=how_chosen(store, run))
    if card is None:
        missing.append("no model card: the run was not tested, train it with run_test=true")
    else:
        card = shared_report.without_places(card, run)
    images = _images(store, options.run, missing) if options.images else None
    page = shared_report.report_page(
        record,
        classes=classes,
        card=card,
        figures=shared_report.report_figures(record, shared_report.read_curves(store, run), classes),
        images=images,
        created=f"Written by eyegender on {datetime.now(UTC):%Y-%m-%d}. Run {options.run}.",
    )
    if options.overwrite:
        remove_old(folder, *written)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT_FILE).write_text(shared_report.without_places(page, run), encoding="utf-8")
    if card is not None:
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
    if model is not None:
        (folder / NETWORK_FOLDER).mkdir(exist_ok=True)
        save_network(model.network, model.spec, folder / NETWORK_FOLDER)
        _write_onnx(model, folder / ONNX_FILE, missing)
    return folder, missing


def _model(store: TrackingStore, options: ExportReportOptions, missing: list[str]) -> LoadedModel | None:
    from eyegender.inference.load import load_model
    from eyegender.tracking.run_artifacts import logged_model, trial_folder

    if logged_model(store, options.run) is None and trial_folder(store.run(options.run)) is None:
        missing.append("no model: the run logged none")
        return None
    return load_model(f"runs:/{options.run}", options.tracking)


def _classes(store: TrackingStore, run_id: str, model: LoadedModel | None) -> tuple[str, ...]:
    from eyegender.tracking.run_artifacts import read_config

    if model is not None:
        return model.spec.classes
    config = read_config(store, run_id)
    return ("female", "male") if config is None else config.spec().classes


def _images(store: TrackingStore, run_id: str, missing: list[str]) -> bytes | None:
    import tempfile
    from pathlib import Path

    from eyegender.registry.shared_report import WITH_IMAGES
    from eyegender.tracking.run_artifacts import artifact_names

    if WITH_IMAGES not in artifact_names(store, run_id, "figures"):
        missing.append(f"no images: the run logged no {WITH_IMAGES}")
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(store.client.download_artifacts(run_id, WITH_IMAGES, folder)).read_bytes()
        except Exception as error:  # the type depends on where the artifacts are stored
            raise store.unreadable(f"{WITH_IMAGES} of run {run_id}", error) from error


def _write_onnx(model: LoadedModel, path: Path, missing: list[str]) -> None:
    from eyegender.core.errors import UserError
    from eyegender.inference.onnx_export import check_installed, export_onnx

    try:
        check_installed()
        export_onnx(model, path)
    except UserError as error:
        missing.append(f"no {ONNX_FILE}: {error}")


@command("export-report", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import ExportReportOptions
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, ExportReportOptions)  # before torch is imported, so that a mistake is reported at once
    folder, missing = export_report(options)
    print(f"Report   {folder / REPORT_FILE}, which opens in any browser without a network")
    if (folder / NETWORK_FOLDER).is_dir():
        print(f"Model    {folder / NETWORK_FOLDER}: eyegender predict model={folder} images=DIR")
    for line in missing:
        print(f"Without  {line}")
    if options.images:
        print("Images   the report shows images of the data, with the names of their files; share it accordingly")


if __name__ == "__main__":
    main()
