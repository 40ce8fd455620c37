"""The fast reader of annotation files accepts only what the reader of lines reads alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eyegender.core.errors import UserError
from eyegender.data.celeba import annotations, well_formed
from eyegender.data.celeba.annotations import Annotations, read_annotations

names = st.text("ab1.-#\u00e9/\\: \t", min_size=1, max_size=5)
numbers = st.one_of(
    st.integers(-(10**13), 10**13).map(str),
    st.sampled_from(["+1", "-0", "007", "1_0", "", "x", "1.5", "-", "\uff11", '"1"']),
)
good_names = st.integers(0, 10**6).map(lambda k: f"{k}.jpg")
good_numbers = st.integers(-999, 10**12 - 1).map(str)


@st.composite
def files(draw: st.DrawFn, *, comma: bool) -> bytes:
    """A file of two columns, in half of the cases with anything unusual in it."""
    odd = draw(st.booleans())
    cell, name = (st.one_of(numbers, good_numbers), st.one_of(names, good_names)) if odd else (good_numbers, good_names)
    rows = [[draw(name), draw(cell), draw(cell)] for _ in range(draw(st.integers(1, 6)))]
    if odd and draw(st.booleans()):
        rows[-1].pop()
    between = "," if comma else draw(st.sampled_from([" ", "  ", "\t"] if odd else [" "]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n", " \n"] if odd else ["\n", "\r\n"]))
    count = len(rows) + (draw(st.integers(-1, 1)) if odd else 0)
    head = (
        ["name,x,y"] if comma else [str(count), draw(st.sampled_from(["x y", "x x", "x"] if odd else ["x y", " x  y"]))]
    )
    last = draw(st.sampled_from(["", end, end * 2]))
    mark = draw(st.sampled_from(["", "\ufeff"])) if odd else ""
    return (mark + end.join([*head, *(between.join(row) for row in rows)]) + last).encode()


def told(path: Path) -> Annotations | str:
    try:
        return read_annotations(path, 2, headed=True)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_both_readers_tell_the_same(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"table{suffix}"
    path.write_bytes(data.draw(files(comma=suffix == ".csv")))
    found = told(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotations, "_read_well_formed", lambda *_, **__: None)
        expected = told(path)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    assert (found.names, found.columns, found.first_line) == (expected.names, expected.columns, expected.first_line)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.values.dtype == expected.values.dtype
    assert found.sha256 == expected.sha256


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_a_usual_file_is_read_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, ends: str) -> None:
    monkeypatch.setattr(annotations, "_read_lines", lambda *_, **__: pytest.fail("read line by line"))
    monkeypatch.setattr(well_formed, "_BLOCK", 64)  # several blocks
    rows = [f"{k:06d}.jpg {k} -{k}" for k in range(50)]
    lines = ["name x y", *rows] if suffix == ".csv" else ["50", "x y", *rows]
    path = tmp_path / f"table{suffix}"
    path.write_bytes(ends.join([*lines, ""]).replace(" ", "," if suffix == ".csv" else "  ").encode())
    found = read_annotations(path, 2, headed=True)
    assert found.names[49] == "000049.jpg"
    assert found.values.tolist() == [[k, -k] for k in range(50)]
