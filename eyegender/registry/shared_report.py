"""A run's report as one HTML page that opens from a file, with its figures inside and without anything of this machine.

It contains no image of the data unless it is asked to, and no path: the figures are drawn again from numbers.
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
from eyegender.registry.card_html import to_html
from eyegender.registry.model_card import card_of_run, describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from mlflow.entities import Run

    from eyegender.comparison.run_record import RunRecord
    from eyegender.tracking.predictions import Predictions
    from eyegender.tracking.tracking_store import TrackingStore

CURVES = tuple(f"{split}/{name}" for split in ("train", "val") for name in ("loss", "accuracy"))
_WIDE = 7.4  # inches; wider figures span the page


def report_page(
    record: RunRecord, *, card: str | None, figures: Mapping[str, Figure], picture: bytes | None, created: str
) -> str:
    """The page.

    Args:
        record: the run.
        card: the model card in Markdown; None for a run that was not tested.
        figures: the figures by name.
        picture: a PNG with images of the data, or None.
        created: the line below the title.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("eyegender.registry"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    images = [_embedded(name, figure) for name, figure in figures.items()]
    if picture is not None:
        uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        images.append({"name": "most_wrong", "uri": uri, "alt": "The most wrong test images", "wide": True})
    # Without its first heading, which is the title of the page. All of its text is escaped.
    body = "" if card is None else Markup(to_html(card.partition("\n")[2]))  # noqa: S704
    remarks = []
    if card is None:
        remarks.append("The run was not tested: only its validation, which has chosen its epoch, is known.")
        if record.synthetic:
            remarks.append("Trained on synthetic eyes. The metrics say nothing about real eyes.")
    return environment.get_template("report.html").render(
        title=title_of(record), created=created, headlines=headlines(record), remarks=remarks, images=images, card=body
    )


def title_of(record: RunRecord) -> str:
    """The run's name, after its backbone if the name does not begin with it."""
    backbone = backbone_name(record.params)
    return record.name if record.name.startswith(backbone) else f"{backbone}: {record.name}"


def headlines(record: RunRecord) -> list[str]:
    """The accuracy in one sentence."""
    predictions = record.predictions
    if predictions is not None:
        found = bootstrap_interval("accuracy", predictions.labels, predictions.probabilities, predictions.persons)
        return [
            f"Test accuracy {100 * found.value:.1f}% (95% interval {100 * found.low:.1f} to {100 * found.high:.1f}%) on "
            f"{len(predictions):,} images{counted_units(predictions.persons, classes_of(predictions))}."
        ]
    best = record.metrics.get("best/val/accuracy")
    return [] if best is None else [f"Validation accuracy {100 * best:.1f}% in the best epoch."]


def classes_of(predictions: Predictions) -> tuple[str, ...]:
    """The names of more than two classes; of two, predictions do not store them."""
    return predictions.classes or ("0", "1")


def card_text(record: RunRecord, classes: tuple[str, ...], folder: str | None) -> str | None:
    """The model card; None for a run without test predictions.

    Args:
        record: the run.
        classes: class names in the order of their labels.
        folder: what to call the shared folder in commands that use its model; None if it has no model.
    """
    if record.predictions is None:
        return None
    use = [] if folder is None else [
        f"eyegender predict model={folder} images=DIR",
        f"eyegender evaluate model={folder} data=folder data.root=DIR",
        f"python -c 'import eyegender; print(eyegender.load_model(\"{folder}\").predict(\"DIR\"))'",
    ]  # fmt: skip
    return card_of_run(record, title=title_of(record), use=use, classes=classes)


def report_figures(
    record: RunRecord, history: Sequence[Mapping[str, float]], classes: tuple[str, ...]
) -> dict[str, Figure]:
    """The run's figures, drawn from its predictions and curves; none of them shows an image of the data."""
    import numpy as np

    from eyegender.plots import figures

    note = "synthetic eyes" if record.synthetic else None
    drawn = {}
    if (predictions := record.predictions) is not None:
        labels, probabilities = predictions.labels, predictions.probabilities
        matrix = predictions.confusion_matrix
        drawn["confusion_matrix"] = figures.confusion_matrix(matrix, classes=classes, note=note)
        if len(np.unique(labels)) > 1:
            drawn["roc"] = figures.roc_curve(labels, probabilities, classes=classes, note=note)
        drawn["reliability"] = figures.reliability_diagram(
            labels, probabilities, persons=predictions.persons, classes=classes, note=note
        )
    if history:
        drawn["learning_curves"] = figures.learning_curves(history, note=note)
    return drawn


def without_places(text: str, run: Run) -> str:
    """The text without secrets, and without the folders of this machine that the run knows of."""
    params, tags = run.data.params, run.data.tags
    known = {params.get("data.root"), params.get("data.reader.root"), params.get("tracking.root"), tags.get("output_dir")}
    known |= {params.get("model.weights"), str(Path.home()), str(Path.cwd())}
    for place in sorted((p for p in known if p and "/" in p and len(p) > 1), key=len, reverse=True):
        text = text.replace(place, Path(place).name)
    return redact(text)


def read_curves(store: TrackingStore, run: Run) -> list[dict[str, float]]:
    """Loss and accuracy of each epoch."""
    from eyegender.tracking.names import stored_name

    epochs: dict[int, dict[str, float]] = {}
    for name in CURVES:
        stored = stored_name(name) if stored_name(name) in run.data.metrics else name
        if stored in run.data.metrics:
            for point in store.client.get_metric_history(run.info.run_id, stored):
                epochs.setdefault(int(point.step), {"epoch": float(point.step)})[name] = float(point.value)
    return [epochs[step] for step in sorted(epochs)]


def about(classes: tuple[str, ...]) -> str:
    """What the model predicts."""
    return describe(classes)


def _embedded(name: str, figure: Figure) -> dict[str, object]:
    content = io.BytesIO()
    kind = "png" if any(axes.get_images() for axes in figure.axes) else "svg"
    metadata: dict[str, None] = {"Software": None} if kind == "png" else {"Date": None}
    figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    media = "image/png" if kind == "png" else "image/svg+xml"
    encoded = base64.b64encode(content.getvalue()).decode()
    alt = figure.get_suptitle().replace("\n", " ").replace(r"\$", "$")
    return {"name": name, "uri": f"data:{media};base64,{encoded}", "alt": alt, "wide": figure.get_figwidth() >= _WIDE}
