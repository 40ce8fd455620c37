"""The answer of a comparison: for each group of comparable runs, which one is best, and whether it is better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.comparison.significance import format_p

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eyegender.comparison.compared import ComparedRun, RunGroup, SeedGroup
    from eyegender.comparison.pairs import Pair
    from eyegender.models.intervals import Interval

# A sentence lists at most this many runs.
_MOST_NUMBERS = 8


def headlines(
    runs: Sequence[ComparedRun], groups: Sequence[RunGroup], pairs: Sequence[Pair], seed_groups: Sequence[SeedGroup]
) -> tuple[str, ...]:
    """One sentence per group about its most accurate run; with several groups, it begins with the group's letter."""
    found = []
    for group in groups:
        members = [runs[number - 1] for number in group.numbers]
        rivals = [pair for pair in pairs if members[0].number in (pair.first.number, pair.second.number)]
        if len(members) == 1:
            sentence = f"{members[0].short_name} has an accuracy of {_accuracy(members[0])} on {group.images}."
        elif not rivals:
            sentence = _of_seeds(group, seed_groups)
        elif len(members) == 2:
            sentence = _of_two(members[0], rivals[0], group)
        else:
            sentence = _of_many(members, rivals, group)
        found.append(sentence if len(groups) == 1 else f"Group {group.letter}: {sentence}")
    return tuple(found)


def tied_with_leader(runs: Sequence[ComparedRun], group: RunGroup, pairs: Sequence[Pair]) -> set[int]:
    """Numbers of the runs that cannot be told apart from the most accurate one of their group."""
    leader = runs[group.numbers[0] - 1]
    rivals = [pair for pair in pairs if leader.number in (pair.first.number, pair.second.number)]
    compared = {pair.other(leader).number for pair in rivals}
    seeds = {number for number in group.numbers[1:] if number not in compared}
    return seeds | {pair.other(leader).number for pair in rivals if not pair.significant}


def listed(numbers: Sequence[int]) -> str:
    """`#1, #2 and #3`; of many numbers the first ones and how many more there are."""
    items = [f"#{number}" for number in numbers]
    if len(items) > _MOST_NUMBERS:
        items = [*items[: _MOST_NUMBERS - 1], f"{len(items) - _MOST_NUMBERS + 1} more"]
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _of_seeds(group: RunGroup, seed_groups: Sequence[SeedGroup]) -> str:
    """All runs of the group have one config."""
    count = len(group.numbers)
    for seeds in seed_groups:
        if set(group.numbers) <= set(seeds.numbers):
            mean, spread = 100 * seeds.mean["accuracy"], 100 * seeds.spread["accuracy"]
            return f"The {count} runs differ only in their seed: accuracy {mean:.1f} ± {spread:.1f}% on {group.images}."
    return f"The {count} runs have the same config, so their differences are chance."


def _of_two(leader: ComparedRun, pair: Pair, group: RunGroup) -> str:
    other = pair.other(leader)
    if pair.significant:
        return f"{leader.short_name} is better than {other.short_name} by {_points(pair, leader)}, on {group.images}."
    difference = f"{_points(pair, leader)} between them, on {group.images}"
    return f"{leader.short_name} and {other.short_name} cannot be told apart: {difference}."


def _of_many(members: Sequence[ComparedRun], rivals: Sequence[Pair], group: RunGroup) -> str:
    leader, count = members[0], len(members)
    tied = sorted(pair.other(leader).number for pair in rivals if not pair.significant)
    if not tied:
        next_best = min(rivals, key=lambda pair: pair.other(leader).number)
        who = "all others" if len(rivals) == count - 1 else f"all {len(rivals)} runs with another config"
        return (
            f"{_named(leader)} is better than {who}, {listed([next_best.other(leader).number])} by "
            f"{_points(next_best, leader)}, on {group.images}."
        )
    reached = f"{_named(leader)} has the highest accuracy, {_accuracy(leader)} on {group.images}"
    if len(tied) == len(rivals):
        return f"The {count} runs cannot be told apart. {reached}."
    beaten = len(rivals) - len(tied)
    others = "the other one" if beaten == 1 else f"the other {beaten}"
    return f"{reached}, and cannot be told apart from {listed(tied)}. It is better than {others}."


def _named(run: ComparedRun) -> str:
    return f"#{run.number} {run.short_name}"


def _accuracy(run: ComparedRun) -> str:
    value, low, high = (100 * each for each in run.metrics["accuracy"])
    return f"{value:.1f}% (95% interval {low:.1f} to {high:.1f}%)"


def _points(pair: Pair, leader: ComparedRun) -> str:
    """The difference from the leader's side, for example `1.2 points (95% interval 0.3 to 2.1, p = 0.012)`."""
    found: Interval = pair.difference
    sign = 1 if pair.first.number == leader.number else -1
    low, high = sorted((100 * sign * found.low, 100 * sign * found.high))
    value = 100 * sign * found.value
    return f"{value:.1f} points (95% interval {low:.1f} to {high:.1f}, p {format_p(pair.p_corrected)})"
