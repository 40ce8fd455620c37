"""`python -m eyegender.predict`: what a trained model says of picture files, as CSV or JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.command import command
from eyegender.core.errors import one_line

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from eyegender.core.options import PredictOptions
    from eyegender.inference.prediction import Eyes, Row

MOST_TOLD = 10


def predict(options: PredictOptions) -> list[Row]:
    """Ask the model about every picture and write `options.output`; unreadable files are told and stop nothing.

    Raises:
        UserError: the model or the pictures' folder cannot be read, or the output cannot be written.
    """
    from eyegender.core.output_folder import new_file, new_folder
    from eyegender.inference import prediction
    from eyegender.inference.image_files import list_pictures
    from eyegender.inference.load import load_model

    output = new_file(options.output, "output")
    if options.grad_cam is not None:
        from eyegender.inference.grad_cam import check_installed

        check_installed()
        figures = new_folder(options.grad_cam, "grad_cam")
    paths = list_pictures(options.images)
    cut = _eyes(options, paths)
    model = load_model(options.model, options.tracking)
    rows: list[Row] = []
    with prediction.row_writer(output) as write:
        for batch in prediction.predict(model, paths, min_confidence=options.min_confidence, eyes=cut):
            write(batch)
            rows += batch
    if options.grad_cam is not None:
        from eyegender.inference.grad_cam_sheet import explain_files

        explain_files(model, rows, cut, figures)
    _tell(rows, model.card.classes[1], output)
    return rows


def _eyes(options: PredictOptions, paths: list[Path]) -> Eyes | None:
    if options.eyes is not None:
        from eyegender.inference.faces import read_eye_positions

        given = read_eye_positions(Path(options.eyes), options.crop)
        given.check(paths)
        return given
    if options.faces:
        from eyegender.inference.faces import FoundEyes

        return FoundEyes(options.crop)
    return None


def _tell(rows: list[Row], positive: str, output: Path) -> None:
    from eyegender.inference.prediction import UNREADABLE, tally

    counts = ", ".join(f"{count:,} {what}" for what, count in tally(rows).most_common())
    print(f"{len(rows):,} rows: {counts} (probability of {positive})")
    unreadable = [row for row in rows if row.note.startswith(UNREADABLE)]
    for row in unreadable[:MOST_TOLD]:
        print(f"  {one_line(row.path)}: {row.note}")
    if len(unreadable) > MOST_TOLD:
        print(f"  and {len(unreadable) - MOST_TOLD} more unreadable files, in {output}")
    print(f"Output   {output}")


@command("predict", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import PredictOptions
    from eyegender.core.schema import parse_as

    predict(parse_as(cfg, PredictOptions))  # checked before torch is imported: a mistake shows at once


if __name__ == "__main__":
    main()
