"""Sentences about a comparison: warnings, and caveats that prevent wrong conclusions."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from eyegender.comparison.answer import listed
from eyegender.comparison.compared import TITLES
from eyegender.comparison.pairs import ALL_PAIRS_UP_TO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.comparison.compared import ComparedRun, Part, RunGroup
    from eyegender.comparison.pairs import Pair

# Said wherever numbers of validation images are shown.
VALIDATION = (
    "These numbers are from the validation images, which chose the best epoch of each run and may have chosen among "
    "the runs: they are higher than on new images. To test one run: eyegender evaluate model=runs:/ID."
)
# The stored probabilities are rounded. A logged accuracy that differs by more than this contradicts the table.
_ACCURACY_TOLERANCE = 0.002
_MOST_CONTRADICTIONS = 3
# With more groups than this, a single sentence replaces one sentence per pair of groups.
_EACH_PAIR_UP_TO = 3


def warnings(runs: Sequence[ComparedRun], groups: Sequence[RunGroup], part: Part = "test") -> tuple[str, ...]:
    """What a reader must know before the numbers: which images, synthetic data, groups that cannot be compared."""
    sentences = []
    if part == "val":
        sentences.append(VALIDATION)
    if synthetic := [run.number for run in runs if run.record.synthetic]:
        every = len(synthetic) == len(runs) > 1
        one = ("All runs were", "Run {} was", "Runs {} were")[0 if every else min(len(synthetic), 2)]
        sentences.append(
            f"{one.format(listed(synthetic))} trained on synthetic eyes: this says nothing about real eyes."
        )
    if len(groups) > _EACH_PAIR_UP_TO:
        letters = f"{groups[0].letter} to {groups[-1].letter}"
        sentences.append(
            f"Groups {letters} differ in {TITLES[part]} or training images: compare numbers only within a group."
        )
    for first, second in combinations(groups if len(groups) <= _EACH_PAIR_UP_TO else (), 2):
        a, b = runs[first.numbers[0] - 1].predictions, runs[second.numbers[0] - 1].predictions
        shared = len(set(a.keys) & set(b.keys))
        if a.fingerprint == b.fingerprint:
            reason = f"they share their {first.n:,} {TITLES[part]} images but not their training images"
        elif shared:
            reason = f"of {first.n:,} and {second.n:,} {TITLES[part]} images only {shared:,} are the same"
        else:
            reason = f"they were {'tested' if part == 'test' else 'validated'} on different images"
        if first.split_kind != second.split_kind:
            reason += f", and one is split {_how_split(first)}, the other {_how_split(second)}"
        sentences.append(
            f"Do not compare numbers of group {first.letter} with numbers of group {second.letter}: {reason}."
        )
    name = "test/accuracy" if part == "test" else "best/val/accuracy"
    differing = [
        (run, logged)
        for run in runs
        if (logged := run.record.metrics.get(name)) is not None
        and abs(logged - run.metrics["accuracy"].value) > _ACCURACY_TOLERANCE
    ]
    for run, logged in differing[:_MOST_CONTRADICTIONS]:
        sentences.append(
            f"#{run.number} logged a {TITLES[part]} accuracy of {100 * logged:.2f}%, but its stored predictions "
            f"give {100 * run.metrics['accuracy'].value:.2f}%; the table shows the latter."
        )
    if (more := len(differing) - _MOST_CONTRADICTIONS) > 0:
        sentences.append(f"The same is true of {more:,} more.")
    return tuple(sentences)


def caveats(
    runs: Sequence[ComparedRun],
    groups: Sequence[RunGroup],
    pairs: Sequence[Pair],
    *,
    n_compared: int,
    part: Part = "test",
) -> tuple[str, ...]:
    """How the numbers were made, and where they are too optimistic."""
    sentences = []
    for group in groups:
        if group.split_kind == "random":
            eyes = runs[group.numbers[0] - 1].is_of_eyes
            what = "the two eyes of one person" if eyes else "images that belong together"
            whose = "eyes of unknown persons" if eyes else "other images"
            sentences.append(
                f"Group {group.letter} is split at random: {what} can be in the training and the test set, so its "
                f"accuracies are too high for {whose}."
            )
        if group.split_kind == "blocks":
            same, many = ("person", "persons") if group.unit == "person" else ("thing", "things")
            sentences.append(
                f"Group {group.letter} is split into blocks of consecutive file numbers: if neighbouring images show "
                f"the same {same}, few {many} are in more than one set."
            )
        if group.persons is None:
            sentences.append(
                f"The {group.unit}s of group {group.letter} are unknown: its intervals and tests treat all images as "
                "independent."
            )
    for run in runs:
        if run.record.trials is not None and run.record.trials > 1:
            chosen_on = "test" if run.record.selected_by.startswith("test/") else "validation"
            effect = f"its {chosen_on} accuracy is therefore too high"
            if part == "test" and chosen_on != part:
                effect += "; its test accuracy is not"
            sentences.append(
                f"#{run.number} is the best of {run.record.trials:,} trials by {run.record.selected_by}: {effect}."
            )
    sentences += [
        f"The leader of group {group.letter} is the best of {len(group.numbers)} runs on these same images, so "
        "its accuracy is too optimistic. The tests below take this into account; the table does not."
        for group in groups
        if len(group.numbers) > 2
    ]
    if n_compared > 1:
        sentences.append(
            f"p-values are corrected (Westfall and Young, step-down) for the {n_compared:,} pairs of runs that could "
            "have been selected. The interval of a difference is not corrected."
        )
    large = [group.letter for group in groups if len(group.numbers) > ALL_PAIRS_UP_TO]
    if large:
        sentences.append(f"In group {', '.join(large)} each run is shown against the most accurate one only.")
    units = [group.unit for group in groups if group.persons is not None and group.persons < group.n]
    sentences += [
        f"McNemar's test is at the level of {unit}s if they are known, because a model tends to be right or wrong "
        f"on all images of {'a person' if unit == 'person' else 'a group'}."
        for unit in dict.fromkeys(units if pairs else ())
    ]
    return tuple(sentences)


def _how_split(group: RunGroup) -> str:
    phrases = {"random": "at random", "blocks": "in blocks", "file": "by a file", "official": "officially"}
    return phrases.get(group.split_kind, f"by {group.split_kind}")
