"""Which outputs of frozen stages a sweep stores, so that all its trials together take the fewest seconds.

A cut is the number of frozen stages before it. A trial with cut c may start from what is stored at c or at any cut
before it; the frozen stages in between then run in every epoch. A stored cut is computed once, from the images or from
another stored cut. All choices share one limit of disk space.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

IMAGES = 0  # the cut before the first stage: nothing is stored there

# More alternatives than this are thinned out: those that need almost the same space are as good as each other.
_MOST_ALTERNATIVES = 128


@dataclass(frozen=True)
class CutCosts:
    """What the trials of one kind cost: they differ in their cut, but could share everything that is stored.

    Each trial is assumed to start from the deepest stored cut that it can use.

    Args:
        trials: expected number of trials with cut 0, 1, ...
        chance: probability that at least one trial has a cut in [first, end).
        build: seconds to compute and store a cut from an earlier one, or from `IMAGES`.
        run: seconds of all epochs of a trial that starts from a stored cut, or from `IMAGES`, and has this cut.
        nbytes: bytes that a stored cut takes.
    """

    trials: Sequence[float]
    chance: Callable[[int, int], float]
    build: Callable[[int, int], float]
    run: Callable[[int, int], float]
    nbytes: Callable[[int], float]

    @property
    def deepest(self) -> int:
        """The largest cut that some trial may have."""
        return max((cut for cut, number in enumerate(self.trials) if number > 0), default=IMAGES)

    def run_all(self, start: int, first: int, end: int) -> float:
        """Seconds of the epochs of all trials with cuts in [first, end), which start from `start`."""
        return sum(self.trials[c] * self.run(start, c) for c in range(first, end) if self.trials[c])


Kept = dict[int, int]
"""The stored cuts, each with the cut from which it is computed."""


@dataclass(frozen=True)
class _Alternative:
    nbytes: float
    seconds: float
    kept: tuple[tuple[int, int], ...] = ()


def planned_seconds(costs: CutCosts, kept: Mapping[int, int]) -> float:
    """Expected seconds of all trials, their epochs and what they store."""
    stored = sorted(kept)
    bounds = [IMAGES, *stored, len(costs.trials)]
    total = sum(costs.run_all(start, start, end) for start, end in pairwise(bounds))
    for cut in stored:
        total += chance_of_build(costs, kept, cut) * costs.build(kept[cut], cut)
    return total


def chance_of_build(costs: CutCosts, kept: Mapping[int, int], cut: int) -> float:
    """Probability that some trial needs this stored cut, directly or to compute the next one from it."""
    stored = sorted(kept)
    end = next((later for later in stored if later > cut and kept[later] != _before(stored, later)), None)
    return costs.chance(cut, len(costs.trials) if end is None else end)


def _before(stored: Sequence[int], cut: int) -> int:
    return max((each for each in stored if each < cut), default=IMAGES)


def choose_cuts(every: Sequence[CutCosts], limit: float) -> list[Kept]:
    """The cuts to store for each kind of trials, which take the fewest expected seconds in at most `limit` bytes.

    Each stored cut is computed from the stored cut before it or from the images, whichever is expected to take less.
    """
    free = [_alternatives(replace(costs, nbytes=lambda _cut: 0.0), limit)[-1] for costs in every]
    if sum(costs.nbytes(cut) for costs, found in zip(every, free, strict=True) for cut, _ in found.kept) <= limit:
        return [dict(found.kept) for found in free]  # without the limit, the choice for each kind is independent
    best = [_Alternative(0.0, 0.0)]
    choices: list[list[tuple[tuple[int, int], ...]]] = [[]]
    for costs in every:
        alternatives = _alternatives(costs, limit)
        found = [
            (_Alternative(a.nbytes + b.nbytes, a.seconds + b.seconds), [*chosen, b.kept])
            for a, chosen in zip(best, choices, strict=True)
            for b in alternatives
            if a.nbytes + b.nbytes <= limit
        ]
        kept_indexes = _undominated([alternative for alternative, _ in found])
        best, choices = [found[i][0] for i in kept_indexes], [found[i][1] for i in kept_indexes]
    chosen = choices[min(range(len(best)), key=lambda i: (best[i].seconds, best[i].nbytes))]
    return [dict(kept) for kept in chosen]


def _alternatives(costs: CutCosts, limit: float) -> list[_Alternative]:
    """What may be stored for these trials: each alternative needs less space than all those that take fewer seconds.

    It goes from the last stored cut to the first. A state is the first stored cut so far, and the end of the cuts that
    need it: those up to the next one that is computed from the images.
    """
    deepest, end = costs.deepest, len(costs.trials)
    states: dict[tuple[int, int], list[_Alternative]] = defaultdict(list)
    complete = [_Alternative(0.0, costs.run_all(IMAGES, IMAGES, end))]
    for cut in range(deepest, IMAGES, -1):
        size = costs.nbytes(cut)
        if size <= limit:
            states[cut, end].append(_Alternative(size, costs.run_all(cut, cut, end)))
        for until in range(cut + 1, end + 1):
            found = states.pop((cut, until), [])
            needed = costs.chance(cut, until)
            for alternative in (found[i] for i in _undominated(found)):
                from_images = alternative.seconds + needed * costs.build(IMAGES, cut)
                whole = from_images + costs.run_all(IMAGES, IMAGES, cut)
                complete.append(_Alternative(alternative.nbytes, whole, ((cut, IMAGES), *alternative.kept)))
                for earlier in range(IMAGES + 1, cut):
                    nbytes = alternative.nbytes + costs.nbytes(earlier)
                    if nbytes > limit:
                        continue
                    between = costs.run_all(earlier, earlier, cut)
                    from_earlier = alternative.seconds + needed * costs.build(earlier, cut)
                    states[earlier, until].append(
                        _Alternative(nbytes, from_earlier + between, ((cut, earlier), *alternative.kept))
                    )
                    states[earlier, cut].append(
                        _Alternative(nbytes, from_images + between, ((cut, IMAGES), *alternative.kept))
                    )
    return [complete[i] for i in _undominated(complete)]


def _undominated(alternatives: Sequence[_Alternative]) -> list[int]:
    """Indexes of the alternatives that none beats in both space and seconds, from the smallest to the fastest."""
    order: Iterable[int] = sorted(
        range(len(alternatives)), key=lambda i: (alternatives[i].nbytes, alternatives[i].seconds)
    )
    best: list[int] = []
    for i in order:
        if not best or alternatives[i].seconds < alternatives[best[-1]].seconds:
            best.append(i)
    if len(best) <= _MOST_ALTERNATIVES:
        return best
    step = (len(best) - 1) / (_MOST_ALTERNATIVES - 1)
    return [best[round(place * step)] for place in range(_MOST_ALTERNATIVES)]
