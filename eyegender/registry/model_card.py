"""Writes the model card (Mitchell et al. 2019, arXiv 1810.03993) of a tested run in Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.tables import TITLES
from eyegender.core.eye_study import is_eye_study, split_title, unit_of
from eyegender.models.intervals import bootstrap_intervals, share_interval
from eyegender.models.metrics import class_metrics, confidences
from eyegender.tracking.predictions import MIN_GROUP_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eyegender.comparison.run_record import RunRecord
    from eyegender.models.intervals import Interval
    from eyegender.tracking.predictions import Predictions

CARD_FILE = "model_card.md"
MOST_CLASSES, MOST_FAILING = 50, 10  # that a card names, and whose errors it describes

NOT_FOR = (
    "The model predicts the binary label that people gave to celebrity photographs (CelebA's *Male*, or the name of a "
    "class folder). It does not predict a person's gender, and no image can show it.",
    "Do not use it for decisions about people: not for access, hiring, advertising, policing, statistics on "
    "passers-by, or any other purpose in which its prediction decides how somebody is treated.",
    "Do not use it on people unlike those in its data: other ages, skin tones, cameras and lighting were not tested.",
)


def model_card(
    record: RunRecord,
    *,
    name: str,
    version: str,
    classes: tuple[str, ...] = ("female", "male"),
    comparison: Sequence[str] = (),
    chosen: str | None = None,
    uses: int = 1,
) -> str:
    """The text of the card of a registered model.

    Args:
        record: the run, with test predictions.
        name: name of the registered model.
        version: version of the registered model.
        classes: class names in the order of their labels.
        comparison: sentences that compare the model with the previous champion.
        chosen: from which trials the run was chosen and what its validation accuracy owes to that; None for a single
            run.
        uses: number of models of this name that these test images helped to choose or refuse, this one included.

    Raises:
        ValueError: the run has no test predictions.
    """
    title, use = f"{name}, version {version}", _use(name, version)
    tests = (*comparison, _uses(uses))
    return card_of_run(record, title=title, use=use, classes=classes, comparison=tests, chosen=chosen)


def card_of_run(
    record: RunRecord,
    *,
    title: str,
    use: Sequence[str],
    classes: tuple[str, ...],
    comparison: Sequence[str] = (),
    chosen: str | None = None,
) -> str:
    """The text of the card of a run's model.

    Args:
        record: the run, with test predictions.
        title: the first heading.
        use: commands that use the model; empty omits them.
        classes: class names in the order of their labels.
        comparison: sentences that compare the model with another.
        chosen: as for `model_card`.

    Raises:
        ValueError: the run has no test predictions.
    """
    predictions = record.predictions
    if predictions is None:
        raise ValueError("a model card needs test predictions")
    metrics = bootstrap_intervals(predictions.labels, predictions.probabilities, predictions.persons)
    params, tags = record.params, record.tags
    lines = [
        f"# {title}",
        "",
        f"{describe(classes)} Network: {record.backbone}. Run: `{record.run_id}`.",
        "",
    ]
    if record.synthetic:
        lines += ["> **Trained on synthetic eyes.** The metrics say nothing about real eyes.", ""]
    if is_eye_study(classes):
        lines += ["## What it must not be used for", "", *(f"- {line}" for line in NOT_FOR), ""]
    lines += ["## Data", "", *_bullets(_data(record, predictions, classes)), ""]
    lines += ["## Training", "", *_bullets(_training(record)), ""]
    if chosen is not None:
        lines += ["## How it was chosen", "", chosen, ""]
    unit = "images" if _units(predictions, classes) is None else f"{unit_of(classes)}s"
    lines += [f"## Test metrics, 95% intervals from a bootstrap over {unit}", "", "| metric | value | interval |"]
    lines += ["|:--|--:|--:|", *(_metric(metric, interval) for metric, interval in metrics.items()), ""]
    if predictions.classes:
        lines += ["Precision, recall, specificity, F1 and AUROC are means over the classes.", ""]
        lines += ["## Test metrics by class", "", *_class_table(predictions), ""]
    lines += [*(f"{sentence}\n" for sentence in comparison)]
    lines += ["## Where it fails", "", *(f"- {line}" for line in failures(predictions, classes)), ""]
    if use:
        lines += ["## Use", "", "```", *use, "```", ""]
    lines += ["## Provenance", "", *_bullets(
        {
            "commit": tags.get("git.commit", "") + (" with local changes" if tags.get("git.dirty") == "true" else ""),
            "initial weights": f"{tags.get('weights.kind', '?')} {tags.get('weights.sha256', '')[:12]}".strip(),
            "seed": params.get("seed", ""),
            "hardware": f"{tags.get('hardware.cpu', '?')}, {tags.get('hardware.gpu', '?')}".replace("none", "no GPU"),
        }
    )]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def describe(classes: tuple[str, ...]) -> str:
    """One sentence on what a model of these classes predicts."""
    image = "an image of one eye" if is_eye_study(classes) else "an image"
    if len(classes) == 2:
        return f"Predicts the class of {image}: *{classes[0]}* (label 0) or *{classes[1]}* (label 1, positive)."
    names = [f"*{name}*" for name in classes[:MOST_CLASSES]]
    more = len(classes) - len(names)
    named = f"{', '.join(names)} and {more} more" if more else f"{', '.join(names[:-1])} or {names[-1]}"
    return f"Predicts which of {len(classes)} classes {image} belongs to: {named}."


def _uses(uses: int) -> str:
    """How far the test images have become a part of the choice."""
    if uses == 1:
        return "No other model of this name was chosen by these test images."
    return (
        f"This is one of {uses} models of this name that were chosen or refused by these test images. The more there "
        "are, the more the metrics flatter the one that was chosen: new images would tell."
    )


def _class_table(predictions: Predictions) -> list[str]:
    """One row per class, those with the lowest F1 first."""
    found = class_metrics(predictions.labels, predictions.probabilities)
    counts = np.bincount(predictions.labels, minlength=len(predictions.classes))
    order = np.argsort(found["f1"], kind="stable").tolist()
    shown = ("precision", "recall", "f1", "auroc")
    lines = [f"| class | images | {' | '.join(TITLES[name] for name in shown)} |", "|:--|--:|--:|--:|--:|--:|"]
    for label in order[:MOST_CLASSES]:
        values = " | ".join("-" if math.isnan(found[name][label]) else f"{found[name][label]:.4f}" for name in shown)
        lines.append(f"| {predictions.classes[label]} | {counts[label]:,} | {values} |")
    if len(order) > MOST_CLASSES:
        lines += ["", f"{len(order) - MOST_CLASSES} classes with a higher F1 are left out."]
    return lines


def failures(predictions: Predictions, classes: tuple[str, ...] = ("female", "male")) -> list[str]:
    """Sentences on the misclassified images: by class, by confidence and, if attributes are known, by attribute.

    Of many classes, only those with the most errors are named.
    """
    sentences = []
    errors = np.bincount(predictions.labels[~predictions.correct], minlength=len(classes))
    labels = range(2) if len(classes) == 2 else np.argsort(-errors, kind="stable").tolist()[:MOST_FAILING]
    for label in labels:
        members = predictions.labels == label
        if members.any():
            rate = _error_rate(predictions, members)
            wrong = predictions.predicted[members & ~predictions.correct]
            most = ""
            if len(classes) > 2 and len(wrong):
                most = f", most often as *{classes[int(np.bincount(wrong).argmax())]}*"
            sentences.append(f"Of {int(members.sum()):,} images of *{classes[label]}*, {rate} are misclassified{most}.")
    confident = confidences(predictions.probabilities) >= 0.9
    if confident.any():
        rate = _error_rate(predictions, confident)
        sentences.append(f"Of {int(confident.sum()):,} predictions with a confidence of 90% or more, {rate} are wrong.")
    else:
        sentences.append("No prediction has a confidence of 90%.")
    accuracies = predictions.attribute_accuracies()
    worst = [one for one in accuracies if one.difference < 0][:5]
    sentences += [
        f"With the attribute {one.name} ({one.n_present:,} images), its accuracy is {-100 * one.difference:.1f} points "
        "lower than without."
        for one in worst
    ]
    if predictions.attributes and not accuracies:
        sentences.append(
            f"No attribute is present in {MIN_GROUP_SIZE} test images and absent in as many, so the effect of "
            "attributes is unknown."
        )
    elif predictions.attributes and not worst:
        sentences.append("No known attribute lowers its accuracy.")
    if not predictions.attributes:
        effects = "glasses, make-up, age or blur" if is_eye_study(classes) else "blur, light or anything else"
        sentences.append(f"The effect of {effects} is unknown: the data has no attributes.")
    return sentences


def _units(predictions: Predictions, classes: tuple[str, ...]) -> int | None:
    """How many persons or image groups there are; None if they are unknown or each group has one image."""
    if predictions.persons is None:
        return None
    count = len(set(predictions.persons))
    return None if count == len(predictions) and not is_eye_study(classes) else count


def _data(record: RunRecord, predictions: Predictions, classes: tuple[str, ...]) -> dict[str, str]:
    params, tags = record.params, record.tags
    counts = {
        split: [n for key, n in params.items() if key == f"count.{split}" or key.startswith(f"count.{split}.")]
        for split in ("train", "val", "test")
    }
    units = _units(predictions, classes)
    in_test = "" if units is None else f", {units:,} {unit_of(classes)}s in test"
    return {
        "source": f"{tags.get('data.source', '?')}, fingerprint {tags.get('data.fingerprint', '?')[:12]}",
        "split": f"by {split_title(record.split_kind, classes)}{in_test}",
        **_images(counts),
        "input": f"{params.get('input_size', '?')} pixels, {params.get('data.color', '?')}",
    }


def _images(counts: dict[str, list[str]]) -> dict[str, str]:
    if any(len(by_class) != 2 for by_class in counts.values() if by_class):
        sums = {split: sum(map(int, by_class)) for split, by_class in counts.items()}
        return {"images": ", ".join(f"{split} {count:,}" for split, count in sums.items() if count)}
    both = ", ".join(f"{split} {' + '.join(by_class)}" for split, by_class in counts.items() if by_class)
    return {"images (label 0 + label 1)": both}


def _training(record: RunRecord) -> dict[str, str]:
    params, costs = record.params, record.costs
    known = {
        "fine-tuned stages": params.get("finetune_stages", params.get("model.finetune_depth", "")),
        "learning rate": params.get("model.lr", ""),
        "epochs": params.get("trainer.max_epochs", ""),
        "batch size": params.get("trainer.batch_size", ""),
        "selected by": params.get("monitor", ""),
    }
    if costs.parameters is not None and costs.multiply_adds is not None:
        known["size"] = f"{costs.parameters:,} parameters, {costs.multiply_adds:,} multiply-adds per image"
    if costs.latency_ms is not None:
        known["latency"] = f"{costs.latency_ms:.1f} ms per image on the machine that wrote this card"
    return known


def _use(name: str, version: str) -> list[str]:
    reference = f"models:/{name}/{version}"
    return [
        f"eyegender predict model={reference} images=DIR",
        f"eyegender evaluate model={reference} data=folder data.root=DIR",
        f"mlflow models serve -m {reference} --env-manager local",
    ]


def _bullets(facts: dict[str, str]) -> list[str]:
    return [f"- {what}: {value}" for what, value in facts.items() if value]


def _metric(name: str, interval: Interval) -> str:
    if math.isnan(interval.value):
        return f"| {TITLES[name]} | - | one class only |"
    return f"| {TITLES[name]} | {interval.value:.4f} | {interval.low:.4f} to {interval.high:.4f} |"


def _error_rate(predictions: Predictions, members: NDArray[np.bool_]) -> str:
    """The share of misclassified images, with an interval over persons if they are known."""
    persons = None if predictions.persons is None else np.asarray(predictions.persons)[members]
    share = share_interval(~predictions.correct[members], persons)
    return f"{100 * share.value:.1f}% ({100 * share.low:.1f} to {100 * share.high:.1f}%)"
