"""The sentences that keep a reader of a comparison from concluding too much."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.comparison.comparison import Group, Row
    from eyegender.comparison.pairs import Pair

# The stored probabilities are rounded; a logged accuracy further away than this is not the table's.
_SAME_ACCURACY = 0.002
# With more groups than this one sentence says it for all.
_EACH_PAIR_UP_TO = 3
# More runs than this are not named one by one in a sentence.
_MOST_NUMBERS = 8


def warnings(rows: Sequence[Row], groups: Sequence[Group]) -> tuple[str, ...]:
    """What must be read before the numbers: drawn eyes, groups that cannot be compared, tables that disagree."""
    found = []
    if any(row.record.synthetic for row in rows):
        numbers = _listed([row.number for row in rows if row.record.synthetic])
        found.append(f"{numbers} trained on drawn eyes: that says nothing about real eyes.")
    if len(groups) > _EACH_PAIR_UP_TO:
        letters = f"{groups[0].letter} to {groups[-1].letter}"
        found.append(f"Groups {letters} differ in test or training pictures: compare numbers only within a group.")
    for first, second in combinations(groups if len(groups) <= _EACH_PAIR_UP_TO else (), 2):
        a, b = rows[first.numbers[0] - 1].predictions, rows[second.numbers[0] - 1].predictions
        shared = len(set(a.keys) & set(b.keys))
        if a.fingerprint == b.fingerprint:
            why = f"they share their {first.n:,} test pictures but not their training pictures"
        elif shared:
            why = f"of {first.n:,} and {second.n:,} test pictures only {shared:,} are the same"
        else:
            why = "they were tested on other pictures"
        if first.split_kind != second.split_kind:
            why += f", and one is split by {first.split_kind}, the other by {second.split_kind}"
        found.append(f"Do not compare numbers of group {first.letter} with numbers of group {second.letter}: {why}.")
    for row in rows:
        logged = row.record.metrics.get("test/accuracy")
        if logged is not None and abs(logged - row.metrics["accuracy"].value) > _SAME_ACCURACY:
            found.append(
                f"#{row.number} logged a test accuracy of {100 * logged:.2f}%, but its stored predictions give "
                f"{100 * row.metrics['accuracy'].value:.2f}%; the table shows the latter."
            )
    return tuple(found)


def headlines(rows: Sequence[Row], groups: Sequence[Group], pairs: Sequence[Pair]) -> tuple[str, ...]:
    """One sentence per group: who leads it, and whether that lead is more than chance."""
    found = []
    for group in groups:
        leader = rows[group.numbers[0] - 1]
        accuracy = leader.metrics["accuracy"]
        where = f"on {group.n:,} test pictures" + (f" of {group.persons:,} persons" if group.persons else "")
        told = (
            f"Group {group.letter}: #{leader.number} {leader.short} reaches {100 * accuracy.value:.1f}% "
            f"({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}%) {where}."
        )
        rivals = [pair for pair in pairs if leader.number in (pair.first.number, pair.second.number)]
        equals = [pair.other(leader).number for pair in rivals if not pair.sure]
        if rivals and equals:
            told += f" There is no evidence that it is better than {_numbers(sorted(equals))}."
        elif rivals:
            beaten = sorted(pair.other(leader).number for pair in rivals)
            told += f" It is more accurate than {_numbers(beaten)}."
        found.append(told)
    return tuple(found)


def remarks(
    rows: Sequence[Row], groups: Sequence[Group], pairs: Sequence[Pair], *, n_compared: int, all_pairs_up_to: int
) -> tuple[str, ...]:
    """How the numbers were made and where they flatter."""
    found = []
    for group in groups:
        if group.split_kind == "random":
            found.append(
                f"Group {group.letter} is split at random: both eyes of one person can stand on both sides, so its "
                "accuracies are too high for eyes of unknown persons."
            )
        if group.split_kind == "blocks":
            found.append(
                f"Group {group.letter} is split into blocks of neighbouring file numbers: where neighbours show one "
                "person, few of them stand on both sides."
            )
        if group.persons is None:
            found.append(
                f"Group {group.letter} knows no persons: its intervals and tests treat every picture as independent."
            )
    for row in rows:
        if row.record.trials is not None and row.record.trials > 1:
            on_test = row.record.chosen_by.startswith("test/")
            effect = (
                "its test accuracy is therefore too high"
                if on_test
                else "its validation accuracy is therefore too high, its test accuracy is not"
            )
            found.append(
                f"#{row.number} is the best of {row.record.trials:,} trials by {row.record.chosen_by}: {effect}."
            )
    found += [
        f"The leader of group {group.letter} is the best of {len(group.numbers)} runs on these very test pictures: "
        "being picked here flatters it. The tests below account for that, the table does not."
        for group in groups
        if len(group.numbers) > 2
    ]
    if n_compared > 1:
        found.append(
            f"p-values are corrected (Westfall and Young, step-down) for all {n_compared:,} pairs of runs that could "
            "have been picked. The interval of a difference is that of its pair alone."
        )
    large = [group.letter for group in groups if len(group.numbers) > all_pairs_up_to]
    if large:
        found.append(f"In group {', '.join(large)} each run is shown against the most accurate one only.")
    if any(group.persons is not None and group.persons < group.n for group in groups) and pairs:
        found.append("McNemar's test counts persons where they are known: pictures of one person fail together.")
    return tuple(found)


def _listed(numbers: Sequence[int]) -> str:
    return ("Run " if len(numbers) == 1 else "Runs ") + _numbers(numbers)


def _numbers(numbers: Sequence[int]) -> str:
    """`#1, #2 and #3`; of many only the first ones and how many more there are."""
    told = [f"#{number}" for number in numbers]
    if len(told) > _MOST_NUMBERS:
        told = [*told[: _MOST_NUMBERS - 1], f"{len(told) - _MOST_NUMBERS + 1} more"]
    return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)
