"""Columns of texts do what sequences, sets and dicts of texts do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyegender.data.text_columns import (
    TextColumn,
    find_texts,
    joined_lines,
    sorting_order,
    take_texts,
    text_array,
    text_codes,
)

hexes = st.lists(st.text("019af", min_size=16, max_size=17), max_size=30)
texts = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), max_size=30)
# Many texts that begin alike.
alike = st.lists(st.text("ab", max_size=20), max_size=30)
lists = st.one_of(hexes, texts, alike)


@given(lists)
def test_a_column_is_a_sequence_of_its_texts(some: list[str]) -> None:
    column = TextColumn(text_array(some))
    assert list(column) == some
    assert column == some
    assert column == tuple(some)
    assert tuple(some) == column
    assert (column == [*some, "more"]) is False
    assert column[1:] == some[1:]
    for i, text in enumerate(some):
        assert column[i] == text
        assert text in column
    index = np.arange(len(some))[::-2]
    assert take_texts(column, index) == take_texts(some, index) == tuple(some[i] for i in index)
    assert hash(column) == hash(TextColumn(text_array(column)))


def test_names_that_are_not_utf8_come_back() -> None:
    name = b"a\xff.png".decode(errors="surrogateescape")
    assert list(TextColumn(text_array([name]))) == [name]


def test_a_column_is_no_text() -> None:
    assert TextColumn(text_array(["a"])) != "a"
    assert repr(TextColumn(text_array("abcd"))) == "TextColumn(['a', 'b', 'c', ...], 4 texts)"
    with pytest.raises(IndexError):
        TextColumn(text_array(["a"]))[1]


@given(lists)
def test_sorting_is_stable(some: list[str]) -> None:
    assert sorting_order(text_array(some)).tolist() == sorted(range(len(some)), key=lambda i: some[i])


@given(lists)
def test_codes_count_in_the_order_of_occurrence(some: list[str]) -> None:
    codes, count = text_codes(text_array(some))
    first = list(dict.fromkeys(some))
    assert count == len(first)
    assert codes.tolist() == [first.index(text) for text in some]


@given(st.lists(st.integers(-3, 3), max_size=20))
def test_numbers_have_codes_too(some: list[int]) -> None:
    first = list(dict.fromkeys(some))
    assert text_codes(np.array(some, dtype=np.int64))[0].tolist() == [first.index(number) for number in some]


@given(lists, lists)
def test_texts_are_found_or_not(wanted: list[str], among: list[str]) -> None:
    distinct = sorted(set(among))
    expected = [distinct.index(text) if text in distinct else -1 for text in wanted]
    assert find_texts(text_array(wanted), text_array(distinct)).tolist() == expected


def test_texts_that_begin_with_the_same_digits_are_told_apart() -> None:
    among = [f"{'0' * 60}{k:04d}" for k in range(50)]
    assert find_texts(text_array(["0" * 64, among[7], "0" * 63 + "x"]), text_array(among)).tolist() == [0, 7, -1]
    assert sorting_order(text_array(among[::-1])).tolist() == list(range(49, -1, -1))


@given(lists)
def test_lines_are_joined(some: list[str]) -> None:
    assert b"".join(joined_lines(b"\n", text_array(some), b" x")).decode() == "".join(f"\n{text} x" for text in some)
