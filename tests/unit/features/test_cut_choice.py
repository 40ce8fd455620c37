"""Which cuts a sweep stores, against every possible choice."""

from __future__ import annotations

import math
from itertools import chain, combinations, product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eyegender.features.cut_choice import IMAGES, CutCosts, Kept, chance_of_build, choose_cuts, planned_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CUTS = 5  # cuts 0..4


def costs_of(
    stages: Sequence[float],
    sizes: Sequence[float],
    trials: Sequence[float],
    *,
    draws: int = 6,
    views: int = 4,
    epochs: int = 10,
    per_byte: float = 0.0,
) -> CutCosts:
    """Costs that follow from the seconds and the outputs' sizes of each stage; the shares are those of the trials."""
    before = [sum(stages[:cut]) for cut in range(len(stages) + 1)]
    total = sum(trials)

    def size(cut: int) -> float:
        return sizes[cut - 1] if cut else 0.0

    def chance(first: int, end: int) -> float:
        return 1 - (1 - min(1.0, sum(trials[first:end]) / total)) ** draws if total else 0.0

    return CutCosts(
        trials=trials,
        chance=chance,
        build=lambda start, cut: views * (before[cut] - before[start]) + per_byte * (size(start) + 2 * size(cut)),
        run=lambda start, cut: epochs * (before[cut] - before[start] + per_byte * size(start)),
        nbytes=size,
    )


def every_choice(cuts: int) -> Iterator[Kept]:
    """Every set of stored cuts, each computed from the images or from the stored cut before it."""
    for stored in chain.from_iterable(combinations(range(1, cuts), n) for n in range(cuts)):
        earlier = [IMAGES, *stored]
        for from_images in product((False, True), repeat=len(stored)):
            yield {
                cut: IMAGES if fresh else earlier[i]
                for i, (cut, fresh) in enumerate(zip(stored, from_images, strict=True))
            }


numbers = st.floats(0.01, 10, allow_nan=False)
kinds = st.builds(
    lambda stages, sizes, trials, draws, views, per_byte: costs_of(
        stages, sizes, trials, draws=draws, views=views, per_byte=per_byte
    ),
    st.lists(numbers, min_size=CUTS - 1, max_size=CUTS - 1),
    st.lists(numbers, min_size=CUTS - 1, max_size=CUTS - 1),
    st.lists(st.sampled_from([0.0, 0.2, 1.0, 3.0]), min_size=CUTS, max_size=CUTS),
    st.integers(1, 12),
    st.integers(1, 8),
    st.floats(0, 0.5),
)


@settings(max_examples=150, deadline=None)
@given(every=st.lists(kinds, min_size=1, max_size=2), limit=st.floats(0, 40))
def test_no_choice_takes_fewer_seconds(every: list[CutCosts], limit: float) -> None:
    chosen = choose_cuts(every, limit)
    assert sum(costs.nbytes(cut) for costs, kept in zip(every, chosen, strict=True) for cut in kept) <= limit
    alternatives = [
        [(sum(map(costs.nbytes, kept)), planned_seconds(costs, kept)) for kept in every_choice(CUTS)] for costs in every
    ]
    best = min(
        sum(seconds for _, seconds in choice)
        for choice in product(*alternatives)
        if sum(nbytes for nbytes, _ in choice) <= limit
    )
    found = sum(planned_seconds(costs, kept) for costs, kept in zip(every, chosen, strict=True))
    assert found == pytest.approx(best, rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(costs=kinds, limit=st.floats(0, 40))
def test_the_expected_seconds_are_those_of_a_list_of_all_outcomes(costs: CutCosts, limit: float) -> None:
    """`planned_seconds` against its definition: what each set of trials that may occur would store."""
    [kept] = choose_cuts([costs], limit)
    total = sum(
        number * costs.run(max((k for k in kept if k <= cut), default=IMAGES), cut)
        for cut, number in enumerate(costs.trials)
    )
    for stored, source in kept.items():
        needed_by = {stored}
        for cut in sorted(kept):
            if kept[cut] in needed_by:
                needed_by.add(cut)
        # The trials whose own start needs it.
        users = [c for c in range(CUTS) if max((k for k in kept if k <= c), default=IMAGES) in needed_by]
        if users:
            assert users == list(range(min(users), max(users) + 1))
            assert chance_of_build(costs, kept, stored) == costs.chance(min(users), max(users) + 1)
            total += costs.chance(min(users), max(users) + 1) * costs.build(source, stored)
    assert planned_seconds(costs, kept) == pytest.approx(total)


def test_nothing_is_stored_without_space_or_trials() -> None:
    stages, sizes = [1.0] * 4, [1.0] * 4
    assert choose_cuts([costs_of(stages, sizes, [1.0] * 5)], 0) == [{}]
    assert choose_cuts([costs_of(stages, sizes, [0.0] * 5)], 100) == [{}]
    assert choose_cuts([], 100) == []


def test_one_cut_in_the_middle_serves_all_trials_behind_it() -> None:
    # Twelve trials over many cuts: none of them alone has enough trials for a store of its own.
    costs = costs_of([1.0] * 12, [1.0] * 12, [1.0] * 13, draws=13, epochs=6)
    [kept] = choose_cuts([costs], 1)
    assert len(kept) == 1
    [cut] = kept
    assert 3 <= cut <= 9


def test_a_cut_that_many_trials_have_is_computed_from_the_images_if_an_earlier_one_is_unlikely() -> None:
    # Storing the first cut takes long, and almost no trial needs it.
    costs = costs_of([1.0, 1.0], [30.0, 1.0], [0.0, 0.05, 5.0], draws=5, per_byte=0.2, epochs=200)
    [kept] = choose_cuts([costs], math.inf)
    assert kept[2] == IMAGES


def test_the_space_goes_to_the_kind_that_saves_more() -> None:
    slow, fast = (costs_of([seconds], [1.0], [0.0, 5.0]) for seconds in (3.0, 1.0))
    assert choose_cuts([fast, slow], 1) == [{}, {1: IMAGES}]
    assert choose_cuts([fast, slow], 2) == [{1: IMAGES}, {1: IMAGES}]


def test_twenty_cuts_of_several_kinds_need_no_patience() -> None:
    stages = [1 + i % 3 for i in range(20)]
    sizes = [20.0 - i + (i % 4) for i in range(20)]
    kinds = [costs_of(stages, sizes, [0.5] * 21, draws=10, per_byte=0.01 * n) for n in range(4)]
    for limit in (5, 50, 300):
        chosen = choose_cuts(kinds, limit)
        assert 0 < sum(sizes[cut - 1] for kept in chosen for cut in kept) <= limit
