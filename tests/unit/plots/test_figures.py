from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from eyegender.plots.figures import (
    confusion_matrix,
    learning_curves,
    most_wrong_sheet,
    reliability_diagram,
    roc_curve,
    save_figures,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

NOTE = "synthetic data"
HISTORY = {
    "train/accuracy": [0.6, 0.8, 0.9],
    "val/accuracy": [0.55, 0.85, 0.85],
    "train/loss": [0.7, 0.4, 0.2],
    "val/loss": [0.7, 0.5, 0.6],
}


def title(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ")


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def sample(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    return labels, np.clip(rng.normal(0.3 + 0.4 * labels, 0.25), 0, 1)


def test_learning_curves_mark_the_first_best_epoch() -> None:
    figure = learning_curves(HISTORY, NOTE)
    assert title(figure) == "Validation accuracy 85.0% at its best, epoch 2 of 3"
    assert figure.get_supxlabel() == NOTE
    training, validation = figure.axes[0].lines[:2]
    assert (training.get_linestyle(), validation.get_linestyle()) == ("--", "-")
    assert training.get_xdata().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ({name: values[:1] for name, values in HISTORY.items()}, "Validation accuracy 55.0% after one epoch"),
        ({"train/accuracy": [0.6, np.nan, 0.7]}, "Training accuracy 70.0% at its best, epoch 3 of 3"),
        ({"val/accuracy": [np.nan], "train/loss": [0.5, np.inf]}, "Loss over 2 epochs"),
        ({"train/accuracy": [0.5, 0.6], "val/accuracy": [0.7]}, "Validation accuracy 70.0% after one epoch"),
    ],
)
def test_learning_curves_of_short_and_broken_histories(
    history: dict[str, list[float]], expected: str, tmp_path: Path
) -> None:
    figure = learning_curves(history)
    assert title(figure) == expected
    save_figures({"curves": figure}, tmp_path)


def test_learning_curves_take_one_row_per_epoch_too() -> None:
    rows = [{"epoch": 1.0, "val/accuracy": 0.5}, {"epoch": 2.0, "val/accuracy": 0.75, "val/loss": 0.4}]
    assert title(learning_curves(rows)) == "Validation accuracy 75.0% at its best, epoch 2 of 2"


@pytest.mark.parametrize("history", [[], {}, {"val/accuracy": []}, {"val/loss": [np.nan]}, {"lr": [0.1]}])
def test_learning_curves_without_an_epoch_are_refused(history: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="no epoch to draw"):
        learning_curves(history)


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class() -> None:
    figure = confusion_matrix([[90, 10], [5, 1895]], classes=("a", "b"), note=NOTE)
    assert title(figure) == "Test accuracy 99.2% (n=2,000), 15 wrong"
    for expected in ("90", "90.0%", "10.0%", "1,895", "99.7%"):
        assert expected in texts(figure)


def test_confusion_matrix_of_one_class() -> None:
    assert "none in the data" in texts(confusion_matrix([[3, 1], [0, 0]]))


@pytest.mark.parametrize("counts", [[[0, 0], [0, 0]], [[1, -1], [0, 0]], [[1, 2, 3]]])
def test_confusion_matrix_refuses_invalid_counts(counts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="counts must be"):
        confusion_matrix(counts)


def test_roc_shows_the_auc_and_the_operating_point() -> None:
    figure = roc_curve([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], split="validation")
    assert title(figure) == "Validation AUC 0.750 (n=4)"
    assert "50.0% of male found" in texts(figure)
    assert "50.0% of female misclassified" in texts(figure)


def test_roc_of_one_class_states_the_reason() -> None:
    assert title(roc_curve([1, 1], [0.2, 0.3])) == "Test ROC undefined: only male (n=2)"


def test_reliability_shows_the_calibration_error() -> None:
    figure = reliability_diagram([0, 1, 1, 1], [0.25, 0.75, 0.75, 0.75])
    assert title(figure) == "Test calibration error 25.0% (n=4)"


def test_reliability_intervals_are_over_persons_if_they_are_known() -> None:
    rng = np.random.default_rng(0)
    scores = np.append(rng.random(300), np.nan)
    labels = np.append(rng.random(300) < scores[:300], True).astype(int)
    twice = np.tile(labels, 2), np.tile(scores, 2)
    persons = [f"p{i}" for i in range(301)]

    def heights(figure: Figure) -> list[float]:
        return [np.ptp(bars.get_paths()[0].vertices[:, 1]) for bars in figure.axes[0].collections]

    once = heights(reliability_diagram(labels, scores, persons=persons))
    assert len(once) == 15
    assert heights(reliability_diagram(*twice, persons=persons * 2)) == pytest.approx(once)
    assert np.mean(heights(reliability_diagram(*twice))) < 0.8 * np.mean(once)


@pytest.mark.parametrize("draw", [roc_curve, reliability_diagram])
class TestProbabilities:
    def test_exact_zero_and_one(self, draw: Callable[..., Figure], tmp_path: Path) -> None:
        save_figures({"figure": draw([0, 0, 1, 1], [0.0, 1.0, 0.0, 1.0])}, tmp_path)

    def test_nan_is_left_out_and_counted(self, draw: Callable[..., Figure]) -> None:
        assert "(n=2, 1 NaN left out)" in title(draw([0, 1, 1], [0.1, 0.8, np.nan]))

    def test_only_nan_is_refused(self, draw: Callable[..., Figure]) -> None:
        with pytest.raises(ValueError, match="all 2 probabilities are NaN"):
            draw([0, 1], [np.nan, np.nan])

    def test_empty_input_is_refused(self, draw: Callable[..., Figure]) -> None:
        with pytest.raises(ValueError, match="no images"):
            draw([], [])


def sheet(labels: list[int], scores: list[float], **options: object) -> Figure:
    pixels = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 1, 4, 4), dtype=np.uint8)
    names = [f"folder/of/eyes/image-{i:05d}.jpg" for i in range(len(labels))]
    return most_wrong_sheet(pixels, labels, scores, names, **options)  # type: ignore[arg-type]


def test_most_confident_errors_come_first() -> None:
    figure = sheet([0, 1, 0, 1], [0.6, 0.001, 0.9, 0.8], k=2)
    assert title(figure) == "2 most confident of 3 errors, test set (n=4)"
    captions = [axes.get_xlabel() for axes in figure.axes if axes.get_images()]
    assert captions == ["male\np(male) <0.01", "female\np(male) 0.90"]
    shown = [int(axes.get_images()[0].get_array()[0, 0]) for axes in figure.axes if axes.get_images()]
    assert shown == [1, 2]


def test_without_errors_the_least_confident_images_are_shown() -> None:
    figure = sheet([0, 1, 1], [0.1, 0.6, np.nan])
    assert title(figure) == "No errors, test set (n=2, 1 NaN left out): the 2 least confident images"
    assert figure.axes[0].get_xlabel() == "male\np(male) 0.60"


def test_only_the_shown_images_are_read() -> None:
    def read(positions: np.ndarray) -> np.ndarray:
        asked.extend(positions.tolist())
        return np.zeros((len(positions), 1, 4, 4), dtype=np.uint8)

    asked: list[int] = []
    most_wrong_sheet(read, [0, 1, 0, 1], [0.6, 0.1, 0.9, 0.8], ["a", "b", "c", "d"], k=2)
    assert asked == [1, 2]


def test_long_names_are_shortened_in_the_middle() -> None:
    assert sheet([0], [0.9]).axes[0].get_title() == "folder/of…00000.jpg"


def test_letters_that_the_font_lacks_raise_no_warning(tmp_path: Path) -> None:
    figure = most_wrong_sheet(np.zeros((1, 1, 4, 4), dtype=np.uint8), [0], [0.9], ["眼/œil$1$.jpg"])
    save_figures({"sheet": figure}, tmp_path)
    assert figure.axes[0].get_title() == r"?/œil\$1\$.jpg"


def test_colour_images_are_shown_in_colour() -> None:
    figure = most_wrong_sheet(np.zeros((1, 3, 4, 4), dtype=np.uint8), [0], [0.9], ["a"])
    assert figure.axes[0].get_images()[0].get_array().shape == (4, 4, 3)


@pytest.mark.parametrize(("options", "message"), [({"k": 0}, "1 or more"), ({}, "no images")])
def test_an_empty_sheet_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sheet([0] if options else [], [0.9] if options else [], **options)


def test_saving_a_figure_is_reproducible(tmp_path: Path) -> None:
    labels, scores = sample()
    written = save_figures({"roc": roc_curve(labels, scores, note=NOTE)}, tmp_path / "new" / "folder", svg=True)
    assert [path.name for path in written] == ["roc.png", "roc.svg"]
    with Image.open(written[0]) as image:
        assert image.size == (780, 735)
    again = save_figures({"roc": roc_curve(labels, scores, note=NOTE)}, tmp_path)
    assert again[0].read_bytes() == written[0].read_bytes()


def test_figures_do_not_import_pyplot() -> None:
    import subprocess
    import sys

    code = "import sys, eyegender.plots.figures; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
