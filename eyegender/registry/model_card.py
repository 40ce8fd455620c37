"""A model card (Mitchell et al. 2019, arXiv 1810.03993) in Markdown: what a model is, and what it is not for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.tables import TITLES
from eyegender.models.intervals import bootstrap_intervals, share_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eyegender.comparison.run_record import RunRecord
    from eyegender.models.intervals import Interval
    from eyegender.tracking.predictions import Predictions

CARD_FILE = "model_card.md"
# Groups of fewer pictures say too little to be listed.
FEWEST = 20

NOT_FOR = (
    "It predicts the binary label that people gave to celebrity photographs (CelebA's *Male*, or the name of a class "
    "folder). It does not tell a person's gender, and no picture can.",
    "Not for decisions about people: not for access, hiring, advertising, policing, statistics on passers-by, or any "
    "other use in which somebody is treated by its answer.",
    "Not for people who are unlike those in its data: other ages, skin tones, cameras and lighting were not measured.",
)


def model_card(
    record: RunRecord,
    *,
    name: str,
    version: str,
    classes: tuple[str, str] = ("female", "male"),
    compared: Sequence[str] = (),
) -> str:
    """The card of a tested run.

    Args:
        record: with test predictions.
        name: of the registered model.
        version: in the registry.
        classes: the names of labels 0 and 1.
        compared: sentences on how it compares with the champion before it.
    """
    table = record.predictions
    if table is None:
        raise ValueError("a model card needs test predictions")
    metrics = bootstrap_intervals(table.labels, table.probabilities, table.persons)
    params, tags = record.params, record.tags
    lines = [
        f"# {name}, version {version}",
        "",
        f"Tells the classes *{classes[0]}* (label 0) and *{classes[1]}* (label 1, positive) of eye pictures apart. "
        f"Network: {record.backbone}. Run: `{record.run_id}`.",
        "",
    ]
    if record.synthetic:
        lines += ["> **Trained on drawn eyes.** Its numbers say nothing about real eyes.", ""]
    lines += ["## What it must not be used for", "", *(f"- {line}" for line in NOT_FOR), ""]
    lines += ["## Data", "", *_bullets(_data(record, table)), ""]
    lines += ["## Training", "", *_bullets(_training(record)), ""]
    who = "persons" if table.persons is not None else "pictures"
    lines += [f"## Test metrics, 95% intervals from a bootstrap over {who}", "", "| metric | value | interval |"]
    lines += ["|:--|--:|--:|", *(_metric(metric, interval) for metric, interval in metrics.items()), ""]
    lines += [*(f"{sentence}\n" for sentence in compared)]
    lines += ["## Where it fails", "", *(f"- {line}" for line in failures(table, classes)), ""]
    lines += ["## Use", "", "```", *_use(name, version), "```", ""]
    lines += ["## Made by", "", *_bullets(
        {
            "commit": tags.get("git.commit", "") + (" with local changes" if tags.get("git.dirty") == "true" else ""),
            "first weights": f"{tags.get('weights.kind', '?')} {tags.get('weights.sha256', '')[:12]}".strip(),
            "seed": params.get("seed", ""),
            "hardware": f"{tags.get('hardware.cpu', '?')}, {tags.get('hardware.gpu', '?')}".replace("none", "no GPU"),
        }
    )]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def failures(table: Predictions, classes: tuple[str, str] = ("female", "male")) -> list[str]:
    """Sentences on which pictures are told wrongly: by class, by sureness, and by attribute where that is known."""
    found = []
    for label in (0, 1):
        members = table.labels == label
        if members.any():
            share = _wrong(table, members)
            found.append(f"Of {int(members.sum()):,} pictures of *{classes[label]}*, {_share(share)} are told wrongly.")
    confidence = np.maximum(table.probabilities, 1 - table.probabilities)
    sure = confidence >= 0.9
    if sure.any():
        share = _wrong(table, sure)
        found.append(f"Where it is 90% sure or more ({int(sure.sum()):,} pictures), {_share(share)} are wrong.")
    else:
        found.append("It is never 90% sure.")
    gaps = []
    for name, values in table.attributes.items():
        has = values > 0
        if name != "Male" and min(int(has.sum()), int((~has).sum())) >= FEWEST:
            gaps.append((float(table.correct[has].mean() - table.correct[~has].mean()), name, int(has.sum())))
    worst = [gap for gap in sorted(gaps) if gap[0] < 0][:5]
    found += [
        f"With the attribute {name} ({count:,} pictures) it is {-100 * gap:.1f} points less accurate than without."
        for gap, name, count in worst
    ]
    if table.attributes and not gaps:
        found.append(
            f"No attribute is present on {FEWEST} test pictures and absent on as many: nothing is known of them."
        )
    elif table.attributes and not worst:
        found.append("No known attribute makes it less accurate.")
    if not table.attributes:
        found.append("Nothing is known on glasses, make-up, age or blur: its data has no such attributes.")
    return found


def _data(record: RunRecord, table: Predictions) -> dict[str, str]:
    params, tags = record.params, record.tags
    counts = {
        part: " + ".join(value for key, value in params.items() if key.startswith(f"count.{part}."))
        for part in ("train", "val", "test")
    }
    persons = f", {len(set(table.persons)):,} persons in test" if table.persons is not None else ""
    return {
        "source": f"{tags.get('data.source', '?')}, fingerprint {tags.get('data.fingerprint', '?')[:12]}",
        "split": f"by {record.split_kind}{persons}",
        "pictures (label 0 + label 1)": ", ".join(f"{part} {count}" for part, count in counts.items() if count),
        "input": f"{params.get('input_size', '?')} pixels, {params.get('data.color', '?')}",
    }


def _training(record: RunRecord) -> dict[str, str]:
    params, costs = record.params, record.costs
    known = {
        "fine-tuned stages": params.get("finetune_stages", params.get("model.finetune_depth", "")),
        "learning rate": params.get("model.lr", ""),
        "epochs": params.get("trainer.max_epochs", ""),
        "batch": params.get("trainer.batch_size", ""),
        "chosen by": params.get("monitor", ""),
    }
    if costs.parameters is not None and costs.multiply_adds is not None:
        known["size"] = f"{costs.parameters:,} parameters, {costs.multiply_adds:,} multiply-adds per picture"
    if costs.latency_ms is not None:
        known["latency"] = f"{costs.latency_ms:.1f} ms per picture on the machine that wrote this card"
    return known


def _use(name: str, version: str) -> list[str]:
    reference = f"models:/{name}/{version}"
    return [
        f"python -m eyegender.predict model={reference} images=DIR",
        f"python -m eyegender.evaluate model={reference} data=folder data.root=DIR",
        f"mlflow models serve -m {reference} --env-manager local",
    ]


def _bullets(facts: dict[str, str]) -> list[str]:
    return [f"- {what}: {value}" for what, value in facts.items() if value]


def _metric(name: str, interval: Interval) -> str:
    if math.isnan(interval.value):
        return f"| {TITLES[name]} | - | one class only |"
    return f"| {TITLES[name]} | {interval.value:.4f} | {interval.low:.4f} to {interval.high:.4f} |"


def _wrong(table: Predictions, members: NDArray[np.bool_]) -> Interval:
    """The share of the pictures that are told wrongly, with an interval over persons where they are known."""
    persons = None if table.persons is None else np.asarray(table.persons)[members]
    return share_interval(~table.correct[members], persons)


def _share(share: Interval) -> str:
    return f"{100 * share.value:.1f}% ({100 * share.low:.1f} to {100 * share.high:.1f}%)"
