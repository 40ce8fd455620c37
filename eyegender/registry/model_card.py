"""Writes the model card (Mitchell et al. 2019, arXiv 1810.03993) of a tested run in Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.tables import TITLES
from eyegender.models.intervals import bootstrap_intervals, share_interval
from eyegender.tracking.predictions import MIN_GROUP_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eyegender.comparison.run_record import RunRecord
    from eyegender.models.intervals import Interval
    from eyegender.tracking.predictions import Predictions

CARD_FILE = "model_card.md"

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
    classes: tuple[str, str] = ("female", "male"),
    comparison: Sequence[str] = (),
) -> str:
    """The text of the card.

    Args:
        record: the run, with test predictions.
        name: name of the registered model.
        version: version of the registered model.
        classes: class names of labels 0 and 1.
        comparison: sentences that compare the model with the previous champion.

    Raises:
        ValueError: the run has no test predictions.
    """
    predictions = record.predictions
    if predictions is None:
        raise ValueError("a model card needs test predictions")
    metrics = bootstrap_intervals(predictions.labels, predictions.probabilities, predictions.persons)
    params, tags = record.params, record.tags
    lines = [
        f"# {name}, version {version}",
        "",
        f"Predicts the class of an image of one eye: *{classes[0]}* (label 0) or *{classes[1]}* (label 1, positive). "
        f"Network: {record.backbone}. Run: `{record.run_id}`.",
        "",
    ]
    if record.synthetic:
        lines += ["> **Trained on synthetic eyes.** The metrics say nothing about real eyes.", ""]
    lines += ["## What it must not be used for", "", *(f"- {line}" for line in NOT_FOR), ""]
    lines += ["## Data", "", *_bullets(_data(record, predictions)), ""]
    lines += ["## Training", "", *_bullets(_training(record)), ""]
    unit = "persons" if predictions.persons is not None else "images"
    lines += [f"## Test metrics, 95% intervals from a bootstrap over {unit}", "", "| metric | value | interval |"]
    lines += ["|:--|--:|--:|", *(_metric(metric, interval) for metric, interval in metrics.items()), ""]
    lines += [*(f"{sentence}\n" for sentence in comparison)]
    lines += ["## Where it fails", "", *(f"- {line}" for line in failures(predictions, classes)), ""]
    lines += ["## Use", "", "```", *_use(name, version), "```", ""]
    lines += ["## Provenance", "", *_bullets(
        {
            "commit": tags.get("git.commit", "") + (" with local changes" if tags.get("git.dirty") == "true" else ""),
            "initial weights": f"{tags.get('weights.kind', '?')} {tags.get('weights.sha256', '')[:12]}".strip(),
            "seed": params.get("seed", ""),
            "hardware": f"{tags.get('hardware.cpu', '?')}, {tags.get('hardware.gpu', '?')}".replace("none", "no GPU"),
        }
    )]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def failures(predictions: Predictions, classes: tuple[str, str] = ("female", "male")) -> list[str]:
    """Sentences on the misclassified images: by class, by confidence and, if attributes are known, by attribute."""
    sentences = []
    for label in (0, 1):
        members = predictions.labels == label
        if members.any():
            rate = _error_rate(predictions, members)
            sentences.append(f"Of {int(members.sum()):,} images of *{classes[label]}*, {rate} are misclassified.")
    confidence = np.maximum(predictions.probabilities, 1 - predictions.probabilities)
    confident = confidence >= 0.9
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
        sentences.append("The effect of glasses, make-up, age or blur is unknown: the data has no attributes.")
    return sentences


def _data(record: RunRecord, predictions: Predictions) -> dict[str, str]:
    params, tags = record.params, record.tags
    counts = {
        split: " + ".join(value for key, value in params.items() if key.startswith(f"count.{split}."))
        for split in ("train", "val", "test")
    }
    persons = f", {len(set(predictions.persons)):,} persons in test" if predictions.persons is not None else ""
    return {
        "source": f"{tags.get('data.source', '?')}, fingerprint {tags.get('data.fingerprint', '?')[:12]}",
        "split": f"by {record.split_kind}{persons}",
        "images (label 0 + label 1)": ", ".join(f"{split} {count}" for split, count in counts.items() if count),
        "input": f"{params.get('input_size', '?')} pixels, {params.get('data.color', '?')}",
    }


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
