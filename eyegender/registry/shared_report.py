"""A run's report as one HTML page that opens from a file, with its figures inside and without anything of this machine.

The figures are drawn again from numbers, so that none of them shows an image of the data.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.comparison.run_record import backbone_name
from eyegender.core.eye_study import counted_units
from eyegender.core.secrets import redact
from eyegender.models.intervals import bootstrap_interval
from eyegender.plots.pages import render_page
from eyegender.registry.card_html import to_html
from eyegender.registry.model_card import card_of_run
from eyegender.tracking.names import metric_value, stored_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from mlflow.entities import Run

    from eyegender.comparison.run_record import RunRecord
    from eyegender.tracking.tracking_store import TrackingStore

# The only figure of a run that shows images of the data, with the names of their files.
WITH_IMAGES = "figures/most_wrong.png"
TEMPLATE = Path(__file__).with_name("templates") / "report.html"
_CURVES = tuple(f"{split}/{name}" for split in ("train", "val") for name in ("loss", "accuracy"))
_WIDE = 7.4  # inches; wider figures span the page
_NOT_TESTED = "The run was not tested: only its validation is known, which has chosen its epoch."
_SYNTHETIC = "Trained on synthetic eyes. The metrics say nothing about real eyes."


def report_page(
    record: RunRecord,
    *,
    classes: tuple[str, ...],
    card: str | None,
    figures: Mapping[str, Figure],
    images: bytes | None,
    created: str,
) -> str:
    """The page as HTML.

    Args:
        record: the run.
        classes: class names in the order of their labels.
        card: the model card in Markdown; None for a run that was not tested.
        figures: the figures by name.
        images: a PNG with images of the data, or None.
        created: the line below the title.
    """
    from markupsafe import Markup

    shown = [_embedded(name, figure) for name, figure in figures.items()]
    if images is not None:
        alt = "The most wrong test images"
        shown.append({"name": "most_wrong", "uri": _uri("image/png", images), "alt": alt, "wide": True})
    return render_page(
        TEMPLATE,
        title=title_of(record),
        created=created,
        answers=_answers(record, classes),
        warnings=[*([_SYNTHETIC] if record.synthetic else []), *([_NOT_TESTED] if card is None else [])],
        images=shown,
        card="" if card is None else Markup(to_html(_body(card))),  # noqa: S704 - to_html has escaped it
    )


def title_of(record: RunRecord) -> str:
    """The run's name, after its backbone if the name does not begin with it."""
    backbone = backbone_name(record.params)
    return record.name if record.name.startswith(backbone) else f"{backbone} · {record.name}"


def card_text(
    record: RunRecord, classes: tuple[str, ...], *, folder: str | None, chosen: str | None = None
) -> str | None:
    """The model card in Markdown; None for a run without test predictions.

    Args:
        record: the run.
        classes: class names in the order of their labels.
        folder: the shared folder in commands that use its model; None if it has no model.
        chosen: as for `model_card`.
    """
    if record.predictions is None:
        return None
    use = [] if folder is None else [
        f"eyegender predict model={folder} images=DIR",
        f"eyegender evaluate model={folder} data=folder data.root=DIR",
        f"eyegender demo models=[{folder}]",
    ]  # fmt: skip
    return card_of_run(record, title=title_of(record), use=use, classes=classes, chosen=chosen)


def report_figures(
    record: RunRecord, curves: Sequence[Mapping[str, float]], classes: tuple[str, ...]
) -> dict[str, Figure]:
    """The run's figures by name, drawn from its test predictions and its curves."""
    import numpy as np

    from eyegender.plots import figures

    note = "synthetic eyes" if record.synthetic else None
    drawn = {}
    if (predictions := record.predictions) is not None:
        labels, probabilities = predictions.labels, predictions.probabilities
        drawn["confusion_matrix"] = figures.confusion_matrix(predictions.confusion_matrix, classes=classes, note=note)
        if len(np.unique(labels)) > 1:
            drawn["roc"] = figures.roc_curve(labels, probabilities, classes=classes, note=note)
        drawn["reliability"] = figures.reliability_diagram(
            labels, probabilities, persons=predictions.persons, classes=classes, note=note
        )
    if curves:
        drawn["learning_curves"] = figures.learning_curves(curves, note=note)
    return drawn


def read_curves(store: TrackingStore, run: Run) -> list[dict[str, float]]:
    """Loss and accuracy of each epoch."""
    epochs: dict[int, dict[str, float]] = {}
    for name in _CURVES:
        stored = stored_name(name) if stored_name(name) in run.data.metrics else name
        if stored in run.data.metrics:
            for point in store.client.get_metric_history(run.info.run_id, stored):
                epochs.setdefault(int(point.step), {})[name] = float(point.value)
    return [epochs[step] for step in sorted(epochs)]


def without_places(text: str, run: Run) -> str:
    """The text without secrets, and without the folders of this machine that the run names."""
    params, tags = run.data.params, run.data.tags
    keys = ("data.root", "data.reader.root", "data.split.file", "model.weights", "tracking.root", "output", "ckpt_path")
    places = [*(params.get(key, "") for key in keys), tags.get("output_dir", ""), str(Path.cwd()), str(Path.home())]
    for place in sorted({place for place in places if "/" in place.rstrip("/")}, key=len, reverse=True):
        text = text.replace(place, Path(place).name)
    return redact(text)


def _body(card: str) -> str:
    """The card without what the page says above the figures: its title, and that the eyes are synthetic."""
    return "\n".join(line for line in card.splitlines()[1:] if not line.startswith("> **Trained on synthetic"))


def _answers(record: RunRecord, classes: tuple[str, ...]) -> list[str]:
    predictions = record.predictions
    if predictions is None:
        best = metric_value(record.metrics, "best/val/accuracy")
        return [] if best is None else [f"Validation accuracy {100 * best:.1f}% in the best epoch."]
    found = bootstrap_interval("accuracy", predictions.labels, predictions.probabilities, predictions.persons)
    return [
        f"Test accuracy {100 * found.value:.1f}% (95% interval {100 * found.low:.1f} to {100 * found.high:.1f}%) on "
        f"{len(predictions):,} images{counted_units(predictions.persons, classes)}."
    ]


def _embedded(name: str, figure: Figure) -> dict[str, object]:
    """The figure as a data URI: a bitmap if it shows a matrix, otherwise vector graphics."""
    content = io.BytesIO()
    kind = "png" if any(axes.get_images() for axes in figure.axes) else "svg"
    metadata: dict[str, None] = {"Software": None} if kind == "png" else {"Date": None}
    figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    media = "image/png" if kind == "png" else "image/svg+xml"
    alt = figure.get_suptitle().replace("\n", " ").replace(r"\$", "$")
    return {"name": name, "uri": _uri(media, content.getvalue()), "alt": alt, "wide": figure.get_figwidth() >= _WIDE}


def _uri(media: str, content: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(content).decode()}"
