"""Figures of more than two classes."""

from __future__ import annotations

import numpy as np
import pytest

from eyegender.plots.figures import confusion_matrix, most_wrong_sheet, reliability_diagram, roc_curve
from tests.unit.plots.test_figures import texts, title


def sample(k: int, n: int = 120) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    scores = rng.random((n, k)) + 1.5 * np.eye(k)[labels]
    return labels, scores / scores.sum(1, keepdims=True), tuple(f"class {i}" for i in range(k))


@pytest.mark.parametrize("k", [3, 12])
def test_a_curve_per_class(k: int) -> None:
    labels, scores, classes = sample(k)
    roc = roc_curve(labels, scores, classes=classes)
    assert f"mean of {k} classes against the rest (n=120)" in title(roc)
    assert len(roc.axes[0].lines) == k + 1  # and the line of chance
    shown = [text.get_text() for text in roc.axes[0].get_legend().get_texts()]
    assert len(shown) == min(k, 8)
    values = [float(text.rsplit(" ", 1)[1]) for text in shown]
    assert values == sorted(values)
    reliability = reliability_diagram(labels, scores, classes=classes)
    assert title(reliability).startswith("Test calibration error")
    assert len(reliability.axes[0].lines) >= k + 2
    assert "class 1" not in reliability.axes[0].get_ylabel()


def test_a_class_that_no_image_has_has_no_curve() -> None:
    labels, scores, classes = sample(4)
    roc = roc_curve(labels[labels != 2], scores[labels != 2], classes=classes)
    assert len(roc.axes[0].lines) == 3 + 1


def test_a_large_confusion_matrix_shows_no_empty_cells() -> None:
    table = np.diag(np.arange(1, 11))
    table[3, 7] = 5
    figure = confusion_matrix(table, [f"class {i}" for i in range(10)])
    assert title(figure) == "Test accuracy 91.7% (n=60), 5 wrong"
    assert len(texts(figure).splitlines()) == 11


def test_of_many_classes_the_figures_show_the_worst() -> None:
    table = 5 * np.eye(45, dtype=int)
    table[40, 3], table[44, 41] = 7, 2
    axes = confusion_matrix(table, [f"class {i}" for i in range(45)]).axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert {"class 3", "class 40", "class 41", "class 44"} < set(rows)
    assert (len(rows), rows[-1]) == (30, "16 other classes")
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown[(29, 29)] == str(16 * 5)
    assert shown[(rows.index("class 3"), rows.index("class 40"))] == "7"
    assert sum(int(count) for count in shown.values()) == table.sum()
    labels, scores, classes = sample(45, 450)
    lines = reliability_diagram(labels, scores, classes=classes).axes[0].lines
    assert len(lines) < 2 + 8 + 15  # of chance, the model with its intervals, and of classes


def test_the_most_wrong_images_name_the_predicted_class() -> None:
    classes = ("ant", "bee", "cow")
    scores = np.array([[0.9, 0.05, 0.05], [0.1, 0.2, 0.7], [0.98, 0.01, 0.01], [np.nan] * 3])
    figure = most_wrong_sheet(np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 2, 1], scores, list("abcd"), classes=classes)
    assert title(figure) == "2 most confident of 2 errors, test set (n=3, 1 NaN left out)"
    captions = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert captions == ["cow\np(ant) 0.98", "bee\np(cow) 0.70"]
