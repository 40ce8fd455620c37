"""`eyegender predict`: predictions of a trained model for image files, as CSV or JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.command import command
from eyegender.core.errors import one_line
from eyegender.core.eye_study import is_eye_study
from eyegender.core.imports import without_collection

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from eyegender.core.options import PredictOptions
    from eyegender.inference.prediction import EyeCropper, PredictionRow

MAX_PRINTED = 10


def predict(options: PredictOptions) -> list[PredictionRow]:
    """Predict every image and write `options.output`; an unreadable file is reported and stops nothing.

    Raises:
        UserError: the model or the folder of images cannot be read, or the output cannot be written.
    """
    with without_collection():
        from eyegender.core.output_folder import new_file, new_folder
        from eyegender.inference import prediction
        from eyegender.inference.load import load_model

    output = new_file(options.output, "output", "predictions.csv", overwrite=options.overwrite)
    if options.grad_cam is not None:
        from eyegender.inference.grad_cam import check_installed, explain_files

        check_installed()
        figures = new_folder(options.grad_cam, "grad_cam", overwrite=options.overwrite)
    paths = prediction.find_image_files(options.images)
    crop_eyes = _eye_cropper(options, paths)
    model = load_model(options.model, options.tracking)
    rows: list[PredictionRow] = []
    classes = model.spec.classes
    with_eyes = crop_eyes is not None or is_eye_study(classes)
    with prediction.row_writer(output, classes, with_eyes=with_eyes) as write:
        for batch in prediction.predict(
            model, paths, min_confidence=options.min_confidence or 0.0, crop_eyes=crop_eyes
        ):
            write(batch)
            rows += batch
    if options.grad_cam is not None:
        explain_files(model, rows, crop_eyes, figures)
    _print_summary(rows, f" ({model.spec.output})" if len(classes) == 2 else "", output)
    return rows


def _eye_cropper(options: PredictOptions, paths: list[Path]) -> EyeCropper | None:
    """What crops the eyes out of faces; None if the images are eyes."""
    if options.eyes is not None:
        from eyegender.inference.faces import read_eye_table

        table = read_eye_table(Path(options.eyes), options.crop)
        table.check(paths)
        return table
    if options.faces:
        from eyegender.inference.faces import EyeDetector

        return EyeDetector(options.crop)
    return None


def _print_summary(rows: list[PredictionRow], what: str, output: Path) -> None:
    from eyegender.inference.prediction import UNREADABLE, count_labels

    counts = ", ".join(f"{count:,} {label}" for label, count in count_labels(rows).most_common())
    print(f"{len(rows):,} rows: {counts}{what}")
    unreadable = [row for row in rows if row.note.startswith(UNREADABLE)]
    for row in unreadable[:MAX_PRINTED]:
        print(f"  {one_line(row.path)}: {row.note}")
    if len(unreadable) > MAX_PRINTED:
        print(f"  and {len(unreadable) - MAX_PRINTED} more unreadable files, listed in {output}")
    print(f"Output   {output}")


@command("predict", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import PredictOptions
    from eyegender.core.schema import parse_as

    predict(parse_as(cfg, PredictOptions))  # checked before torch is imported, so that a mistake is reported at once


if __name__ == "__main__":
    main()
