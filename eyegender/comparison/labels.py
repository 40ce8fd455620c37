"""Labels of compared runs: what a run is, then what differs between the runs."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from eyegender.tracking.run_names import SEPARATOR, short_keys, short_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eyegender.comparison.run_record import RunRecord

# Parameters that change no result, that the beginning of the label says, or that follow from others.
_HIDDEN = (
    "model.name", "model.backbone._target_", "data.root", "data.reader.", "tracking.", "count.", "hydra.", "output",
    "overwrite", "ckpt_path", "run_test", "finetune_stages", "input_size", "trainer.progress", "trainer.threads",
)  # fmt: skip
_TARGET = "._target_"
DATA = "data"  # stands for the images, where runs have different ones


def run_labels(records: Sequence[RunRecord]) -> dict[str, str]:
    """A unique label for each run, by its id.

    A label begins with the name that a user gave the run, the number of a trial, or the backbone. If that is not
    unique, or a number, then come the parameters that differ, those that tell most runs apart first. They are read from
    the composed config, where the last value of a key that was given twice has won. Parameters that the user set are
    preferred to those that follow from them. Runs that do not differ at all end with their id.
    """
    names = {record.run_id: _own_name(record) for record in records}
    if len(records) == 1:
        record = records[0]
        return {record.run_id: record.name or record.backbone}
    backbones: list[str | None] = [record.backbone for record in records]
    starts = [_start(record, names[record.run_id], one_backbone=len(set(backbones)) == 1) for record in records]
    if len(set(starts)) == len(records) and not any("trial.number" in record.tags for record in records):
        return {record.run_id: start for record, start in zip(records, starts, strict=True)}
    differing = _differing(records)
    given = {key for record in records for key in _overridden(record)}
    labels: list[str] = []
    for keys in ([key for key in differing if key in given], list(differing)):
        shown = _without_repeats({key: differing[key] for key in keys}, backbones)
        labels = [SEPARATOR.join([start, *parts]) for start, parts in zip(starts, _parts(shown, records), strict=True)]
        if shown and len(set(labels)) == len(records):
            break
    counts = Counter(labels)
    return {
        record.run_id: label if counts[label] == 1 else f"{label}{SEPARATOR}{record.run_id[:8]}"
        for record, label in zip(records, labels, strict=True)
    }


def _own_name(record: RunRecord) -> str | None:
    """The name that a user gave the run; None for one that eyegender made of the backbone or the trial."""
    made = rf"{re.escape(record.params.get('model.name', '?'))}( |$)|trial \d+( |$)"
    return record.name if record.name and not re.match(made, record.name) else None


def _start(record: RunRecord, own_name: str | None, *, one_backbone: bool) -> str:
    if own_name is not None:
        return own_name
    if (trial := record.tags.get("trial.number")) is not None:
        return f"trial {trial}" if one_backbone else f"trial {trial}{SEPARATOR}{record.backbone}"
    return record.backbone


def _differing(records: Sequence[RunRecord]) -> dict[str, list[str | None]]:
    """The values of each parameter that differs, by run; those that tell most runs apart first.

    A parameter that some runs lack differs only if they have another one in its place: a whole section instead of a
    value. Otherwise they are of a version that did not have it.
    """
    params = [_facts(record) for record in records]
    keys = list(dict.fromkeys(key for each in params for key in each))
    found: dict[str, list[str | None]] = {}
    for key in keys:
        values = [each.get(key) for each in params]
        present = {value for value in values if value is not None}
        if len(present) > 1 or (None in values and _is_replaced(key, keys)):
            found[key] = values
    return dict(sorted(found.items(), key=lambda item: -len(set(item[1]))))


def _facts(record: RunRecord) -> Mapping[str, str]:
    facts = {
        key: value
        for key, value in record.params.items()
        if not key.startswith(_HIDDEN) and not key.endswith("._partial_")
    }
    return facts | {DATA: _data(record)} if "data.fingerprint" in record.tags else facts


def _data(record: RunRecord) -> str:
    """The images, so that equal ones are equal: what they are called, and their fingerprint."""
    root = record.params.get("data.root", record.params.get("data.reader.root", ""))
    name = short_value(root) if root else record.tags.get("data.source", "")
    return f"{name} {record.tags['data.fingerprint'][:8]}"


def _is_replaced(key: str, keys: Sequence[str]) -> bool:
    return any(other.startswith(f"{key}.") or key.startswith(f"{other}.") for other in keys if other != DATA)


def _overridden(record: RunRecord) -> set[str]:
    """The parameters that the user or the sweep set, by themselves or as part of a dict; of a group, only its class."""
    words = re.split(r" (?=\S*=)", record.tags.get("overrides", ""))
    given = {word.lstrip("+~'\"").partition("=")[0] for word in words if "=" in word}
    nested = tuple(f"{name}." for name in given if "." in name)
    return {
        key
        for key in (*record.params, DATA)
        if key in given or key.startswith(nested) or key.removesuffix(_TARGET) in given
    }


def _without_repeats(
    differing: Mapping[str, list[str | None]], backbones: list[str | None]
) -> dict[str, list[str | None]]:
    """Without parameters that have the values of an earlier one, or of the backbone, in every run."""
    kept: dict[str, list[str | None]] = {}
    for key, values in differing.items():
        if values != backbones and values not in kept.values():
            kept[key] = values
    return kept


def _parts(differing: Mapping[str, list[str | None]], records: Sequence[RunRecord]) -> list[list[str]]:
    """The parts of each run's label."""
    known = [key for record in records for key in record.params]
    names = short_keys(key.removesuffix(_TARGET) for key in [*differing, *known])
    parts: list[list[str]] = [[] for _ in records]
    for key, values in differing.items():
        shortened = [value if value is None else _shown(key, value) for value in values]
        # Values that are equal only after rounding are shown as they are.
        texts = shortened if len(set(shortened)) == len(set(values)) else values
        for own, text in zip(parts, texts, strict=True):
            if text is not None:
                own.append(f"{names[key.removesuffix(_TARGET)]} {text}")
    return parts


def _shown(key: str, value: str) -> str:
    if key == DATA:
        return value.rpartition(" ")[0]
    return value.rpartition(".")[2] if key.endswith(_TARGET) else short_value(value)
