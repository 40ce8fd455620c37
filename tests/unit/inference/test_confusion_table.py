"""The confusion matrix in a terminal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from eyegender.inference.confusion_table import confusion_table


def printed(matrix: NDArray[np.int64], classes: list[str], width: int) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(confusion_table(matrix, classes, width))
    lines = [" ".join(line.split()) for line in capture.get().splitlines()]
    assert max(len(line) for line in capture.get().splitlines()) <= width
    return [line for line in lines if line]


def test_two_classes_are_a_table_of_four_counts() -> None:
    lines = printed(np.array([[953, 47], [34, 1209]]), ["femaleeyes", "maleeyes"], 80)
    assert lines[1] == "true class femaleeyes maleeyes correct"
    assert lines[-2:] == ["femaleeyes 953 47 95.3%", "maleeyes 34 1209 97.3%"]


@pytest.mark.parametrize("width", [80, 120])
def test_ten_classes_with_long_names_fit_by_numbers(width: int) -> None:
    matrix = np.arange(100, dtype=np.int64).reshape(10, 10) * 100
    lines = printed(matrix, [f"a rather long name {k}" for k in range(10)], width)
    assert lines[1] == "true class 1 2 3 4 5 6 7 8 9 10 correct"
    assert lines[-1].startswith("10 a rather long… 9000 9100")


def test_what_does_not_fit_is_a_list() -> None:
    lines = printed(np.full((10, 10), 1_234_567), [f"class {k}" for k in range(10)], 80)
    assert lines[0].startswith("Most frequent confusions of 10 classes")


def test_of_many_classes_the_worst_pairs_are_listed() -> None:
    matrix = np.eye(30, dtype=np.int64) * 8
    matrix[3, 7], matrix[20, 1] = 2, 5
    lines = printed(matrix, [f"class {k}" for k in range(30)], 80)
    assert lines[0] == "Most frequent confusions of 30 classes; metrics.json has all"
    assert lines[-2:] == ["class 20 class 1 5 38.5%", "class 3 class 7 2 20.0%"]


def test_names_are_text_and_not_markup() -> None:
    lines = printed(np.array([[1, 0], [0, 0]]), ["[red]a\n", "b"], 80)
    assert lines[-2:] == ["[red]a\\n 1 0 100.0%", "b 0 0 -"]
