"""The models that the demo offers: what they are, how good they are, what they expect, and an example for each."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.core.eye_study import is_eye_study
from eyegender.inference.load import classes_of, find_registered
from eyegender.models.intervals import Interval, share_interval
from eyegender.tracking.names import metric_value
from eyegender.tracking.run_artifacts import (
    downloaded,
    logged_classes,
    logged_model,
    read_predictions,
    read_validation,
    trial_folder,
)
from eyegender.tracking.run_names import SEPARATOR, short_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import LoggedModel, Run

    from eyegender.tracking.tracking_store import TrackingStore

MAX_MODELS = 20  # offered, and as many hidden ones
_PARAMS, _TAGS = ("model.name",), ("study", "pruned")
_COUNT = "count.train."
_EXAMPLE = "input_example.json"  # in a logged model
_MOST_CLASSES = 8  # that a sentence names


@dataclass(frozen=True)
class DemoModel:
    """A model that the page offers.

    Args:
        reference: reference of the model, as `load_model` takes it.
        title: name of the model on the page: backbone, data, accuracy with its interval, date.
        eyes: whether it belongs to the eye study, whose page says what it must not be used for.
        expects: which images it takes and which answers it gives.
        hidden: whether it is no better than chance, so that the page shows it only on request.
    """

    reference: str
    title: str
    eyes: bool = True
    expects: str = ""
    hidden: bool = False


class Offer(NamedTuple):
    """The models, and sentences about those that are not among them."""

    models: Sequence[DemoModel]
    notes: Sequence[str] = ()


def find_models(store: TrackingStore, experiment: str, references: Sequence[str] | None) -> Offer:
    """The given models, or else every registered alias and the newest finished runs with a model.

    A run's model that is no better than always giving the most frequent class is hidden, unless it was given, has an
    alias, or all models would be hidden.

    Raises:
        UserError: there is no model.
    """
    if references is not None:
        return Offer([_given(store, reference) for reference in references])
    models = [
        replace(_of_alias(store, model.name, alias, version), hidden=False)
        for model in store.client.search_registered_models()
        for alias, version in sorted(model.aliases.items())
    ]
    experiment_id = store.experiment_id(experiment)
    summaries = store.summaries([experiment_id], params=_PARAMS, metrics=(), tags=_TAGS)
    finished = [run for run in summaries if run.is_training and run.status == "FINISHED"]
    complete = [run for run in finished if run.tags.get("pruned") != "true"]
    looked_at = 0
    for start in range(0, len(complete), MAX_MODELS):
        if sum(not model.hidden for model in models) >= MAX_MODELS or len(models) >= 2 * MAX_MODELS:
            break
        for run in store.runs(complete[start : start + MAX_MODELS]):
            looked_at += 1
            if _has_model(store, run):
                models.append(_described(store, run, f"runs:/{run.info.run_id}"))
    if not models:
        raise UserError(f"experiment {experiment!r} in {store.name} has no finished run with a model; train first")
    if all(model.hidden for model in models):
        models = [replace(model, hidden=False) for model in models]
    return Offer(_unique(models), _notes(len(finished) - len(complete), len(complete) - looked_at))


def example_of(store: TrackingStore, model: DemoModel) -> bytes | None:
    """A picture to try the model on, as PNG: the example that it was logged with, or a drawn eye; None without one."""
    try:
        logged = _logged(store, model.reference)
        if logged is not None:
            with downloaded(store, logged, _EXAMPLE) as path:
                pixels = np.asarray(json.loads(path.read_text(encoding="utf-8")), dtype=np.uint8)[0]
            return _png(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    except (UserError, OSError, ValueError, TypeError, IndexError):  # a model of another version has another example
        pass
    if not model.eyes:
        return None
    from eyegender.data.synthetic import SyntheticReader

    return _png(SyntheticReader(n=4).draw(0))


def _given(store: TrackingStore, reference: str) -> DemoModel:
    """A model that was asked for; whatever is wrong with it is reported when it is used."""
    try:
        if reference.startswith("runs:/"):
            run_id = reference.removeprefix("runs:/").strip("/").partition("/")[0]
            return replace(_described(store, store.run(run_id), reference), hidden=False)
        if reference.startswith("models:/"):
            source = find_registered(store, reference).source_run_id
            name = reference.removeprefix("models:/")
            return replace(_described(store, store.run(source) if source else None, reference, name), hidden=False)
        classes = classes_of(store, reference)
    except (UserError, OSError, ValueError, TypeError, KeyError):
        return DemoModel(reference, reference)
    return DemoModel(reference, reference, classes is None or is_eye_study(classes), _expects(classes or ()))


def _of_alias(store: TrackingStore, name: str, alias: str, version: str) -> DemoModel:
    run_id = store.client.get_model_version(name, version).run_id
    run = store.run(run_id) if run_id else None
    return _described(store, run, f"models:/{name}@{alias}", f"{alias} of {name} (version {version})")


def _described(store: TrackingStore, run: Run | None, reference: str, name: str = "") -> DemoModel:
    if run is None:
        return DemoModel(reference, name or reference, _is_of_eyes(store, reference))
    params, tags = run.data.params, run.data.tags
    classes = logged_classes(run)
    counted = [key.removeprefix(_COUNT) for key in params if key.startswith(_COUNT)]
    known = bool(classes or counted) or _COUNT.rstrip(".") in params  # of many classes, their sum
    what = f"{params.get('model.name', 'a model')} on {_data(run)}"
    if (trial := tags.get("trial.number")) is not None:
        what += f", trial {trial} of {tags.get('study.name', 'a study')}"
    accuracy, chance, part = _accuracy(store, run)
    parts = [*([name] if name else []), what]
    if accuracy is not None:
        value, low, high = (100 * each for each in accuracy)
        within = "" if np.isnan(low) else f" ({low:.1f} to {high:.1f}%)"
        parts.append(f"{value:.1f}%{within}{'' if part == 'test' else ' in validation'}")
    parts.append(time.strftime("%Y-%m-%d", time.localtime(run.info.start_time / 1000)))
    return DemoModel(
        reference,
        SEPARATOR.join(parts),
        is_eye_study(classes or counted) or not known,
        _expects(classes or counted, params.get("input_size"), params.get("data.color")),
        hidden=accuracy is not None and chance is not None and not accuracy.low > chance,
    )


def _accuracy(store: TrackingStore, run: Run) -> tuple[Interval | None, float | None, str]:
    """The accuracy with its interval, the share of the most frequent class, and whether it is of the test images."""
    part, table = "test", None
    with contextlib.suppress(UserError):  # the artifacts are away at the moment; the metrics are not
        table = read_predictions(store, run)
        if table is None:
            part, table = "val", read_validation(store, run)
    if table is not None and len(table) and np.isfinite(table.probabilities).all():
        chance = max(Counter(table.labels.tolist()).values()) / len(table)
        return share_interval(table.correct, table.persons), chance, part
    for part, name in (("test", "test/accuracy"), ("val", "best/val/accuracy")):
        if (value := metric_value(run.data.metrics, name)) is not None:
            return Interval(value, float("nan"), float("nan")), None, part
    return None, None, "test"


def _data(run: Run) -> str:
    source = run.data.tags.get("data.source", "unknown images")
    root = run.data.params.get("data.root", run.data.params.get("data.reader.root", ""))
    if source == "folder" and root:
        return short_value(Path(root).expanduser().absolute())
    return {"celeba": "CelebA", "synthetic": "synthetic eyes"}.get(source, source)


def _expects(classes: Sequence[str], size: str | None = None, color: str | None = None) -> str:
    shape = (
        "" if size is None else f" The model sees it as {size} x {size} pixels{' in gray' if color == 'gray' else ''}."
    )
    if not classes:
        return shape.strip()
    more = len(classes) - _MOST_CLASSES
    named = [*classes[:_MOST_CLASSES], f"{more} more"] if more > 0 else list(classes)
    answers = f"{', '.join(named[:-1])} {'and' if more > 0 else 'or'} {named[-1]}"
    if is_eye_study(classes):
        return f"Expects an image of one eye, cropped closely. Its answer is {answers}.{shape}"
    return f"Expects an image like those it was trained on. Its answer is always one of its classes: {answers}.{shape}"


def _notes(n_pruned: int, n_more: int) -> list[str]:
    notes = []
    if n_pruned:
        trials = "1 pruned trial is" if n_pruned == 1 else f"{n_pruned:,} pruned trials are"
        notes.append(f"{trials} not listed; start the demo with models=[FOLDER/checkpoints/best.ckpt] to try one.")
    if n_more > 0:
        runs = "1 older run is" if n_more == 1 else f"{n_more:,} older runs are"
        notes.append(f"{runs} not listed; start the demo with models=[runs:/ID] to try one.")
    return notes


def _has_model(store: TrackingStore, run: Run) -> bool:
    return trial_folder(run) is not None or logged_model(store, run.info.run_id) is not None


def _logged(store: TrackingStore, reference: str) -> LoggedModel | None:
    if reference.startswith("models:/"):
        return find_registered(store, reference)
    if reference.startswith("runs:/"):
        return logged_model(store, reference.removeprefix("runs:/").strip("/").partition("/")[0])
    return None


def _is_of_eyes(store: TrackingStore, reference: str) -> bool:
    """Whether a model belongs to the eye study, as far as is known without loading it; otherwise true."""
    try:
        classes = classes_of(store, reference)
    except (UserError, OSError, ValueError, TypeError, KeyError):  # the page reports it when the model is used
        return True
    return classes is None or is_eye_study(classes)


def _unique(models: Sequence[DemoModel]) -> list[DemoModel]:
    """Titles that are equal end with a part of the reference."""
    counts = Counter(model.title for model in models)
    return [
        model
        if counts[model.title] == 1
        else replace(model, title=f"{model.title}{SEPARATOR}{model.reference.removeprefix('runs:/')[:8]}")
        for model in models
    ]


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
