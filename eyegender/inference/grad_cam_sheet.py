"""Grad-CAM as figures: of the most wrong pictures of an evaluation, or of single files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eyegender.core.errors import one_line
from eyegender.data.decode import decode, to_pixels
from eyegender.data.picture_bytes import read_picture
from eyegender.inference.grad_cam import explain, overlay
from eyegender.plots.figures import save_figures
from eyegender.plots.image_sheet import image_sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.inference.labeled_images import LabeledImages
    from eyegender.inference.load import LoadedModel
    from eyegender.inference.prediction import Eyes, Row
    from eyegender.tracking.predictions import Predictions

FIGURE = "grad_cam"
MOST_FILES = 200
LONGEST_NAME = 60  # of a picture, within the name of its figure


def explain_most_wrong(
    model: LoadedModel, pictures: LabeledImages, table: Predictions, count: int, folder: Path
) -> Path:
    """`figures/grad_cam.png` with the pictures that are furthest from the truth, on the model's run, too.

    Each is shown as it is and, beside it, with what spoke for the answer.
    """
    distance = np.abs(table.labels - table.probabilities)
    chosen = np.argsort(-distance, kind="stable")[:count]
    pixels = pictures.pixels(chosen)
    shown = overlay(pixels, explain(model, pixels))
    plain = np.broadcast_to(pixels, shown.shape)
    both = np.stack([plain, shown], axis=1).reshape(-1, *shown.shape[1:])
    classes = pictures.samples.classes
    captions: list[str] = []
    names: list[str] = []
    for i in chosen:
        said = classes[int(table.probabilities[i] > 0.5)]
        captions += [
            f"is {classes[table.labels[i]]}",
            f"spoke for {said}\np({classes[1]}) {table.probabilities[i]:.2f}",
        ]
        names += [table.names[i], ""]
    figure = image_sheet(both, captions, names, f"The {len(chosen)} pictures furthest from the truth, by Grad-CAM")
    path = save_figures({FIGURE: figure}, folder / "figures")[0]
    if model.store is not None and model.run_id is not None:
        model.store.client.log_artifact(model.run_id, str(path), "figures")
    return path


def explain_files(model: LoadedModel, rows: Sequence[Row], eyes: Eyes | None, folder: Path) -> list[Path]:
    """One figure per answered row, up to `MOST_FILES`, in `folder`."""
    written = []
    answered = [row for row in rows if row.probability is not None]
    for number, row in enumerate(answered[:MOST_FILES]):
        image = decode(read_picture(Path(row.path)), upright=eyes is None)
        if eyes is not None:
            image = eyes(Path(row.path), image)[row.eye]
        pixels = to_pixels(image, model.card.size, model.card.color)[None]
        shown = overlay(pixels, explain(model, pixels))
        both = np.concatenate([np.broadcast_to(pixels, shown.shape), shown])
        said = f"p({model.card.classes[1]}) {row.probability:.2f}"
        name = one_line(Path(row.path).stem)
        title = f"{one_line(Path(row.path).name)} {row.eye}: {row.label or row.note}".replace(" :", ":")
        figure = image_sheet(
            both, ["as the model sees it", f"what spoke for it\n{said}"], ["", ""], title, fewest_columns=2
        )
        written += save_figures({f"{number:04d}-{name[:LONGEST_NAME]}{row.eye and '-' + row.eye}": figure}, folder)
    if len(answered) > MOST_FILES:
        print(f"Grad-CAM of the first {MOST_FILES} of {len(answered)} answers only")
    return written
