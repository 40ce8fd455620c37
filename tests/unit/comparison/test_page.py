from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eyegender.comparison.comparison import Comparison, compare
from eyegender.comparison.figures import comparison_figures, pareto_front
from eyegender.comparison.interval_chart import interval_chart
from eyegender.comparison.page import render_html, render_markdown, write_comparison
from eyegender.comparison.paper import PAPER
from eyegender.comparison.run_record import ModelCosts
from eyegender.comparison.tables import configs_table, metrics_table, pairs_table, seeds_table
from eyegender.plots.figures import save_figures
from tests.unit.comparison.example_runs import run, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


CELEBA = {"data.source": "celeba"}


def two_runs() -> Comparison:
    fast = ModelCosts(2_225_153, 57_400_000, 9_100_000, 4.2, 71.0)
    slow = ModelCosts(21_800_000, 5_700_000_000, 87_300_000, 11.9, 4000.0)
    inception = {
        "model.name": "inception_v3",
        "model.finetune_depth": "6",
        "finetune_stages": "16",
        "model.lr": "0.001",
    }
    return compare(
        [
            run("mobile", table(1, 1.5), costs=fast, tags=CELEBA),
            run("inception", table(2, 0.3), params=inception, costs=slow, tags=CELEBA),
        ],
        n_resamples=200,
    )


def black_images(names: Sequence[str]) -> np.ndarray:
    return np.zeros((len(names), 1, 8, 8), dtype=np.uint8)


class Page(HTMLParser):
    """The references, tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained() -> None:
    comparison = two_runs()
    page = Page(render_html(comparison, comparison_figures(comparison, black_images), "today"))
    assert len(page.references) == 7
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert not {"script", "link", "iframe"} & set(page.tags)
    for expected in ("Comparison of 2 runs", "today", "mobile", "inception", "91.82%", "91.20% in its running text"):
        assert expected in page.text


def test_names_cannot_add_html_or_formulas(tmp_path: Path) -> None:
    name = "<script>alert(1)</script> $x^$ | [l](http://a)"
    comparison = compare([run(name, table(1, 1.0))], n_resamples=200)
    figures = {"roc": comparison_figures(comparison)["roc"]}
    save_figures(figures, tmp_path)
    page = Page(render_html(comparison, figures))
    assert "script" not in page.tags
    assert name in page.text
    markdown = render_markdown(comparison, figures)
    assert "<script>" not in markdown
    assert "[l](" not in markdown


def test_page_markdown_and_figures_are_written(tmp_path: Path) -> None:
    comparison = compare([replace(run("a", table(1, 1.0)), history=[])], n_resamples=100)
    written = write_comparison(comparison, tmp_path / "new")
    names = [path.relative_to(tmp_path / "new").as_posix() for path in written]
    assert names[:2] == ["comparison.html", "comparison.md"]
    assert names[2:4] == ["figures/accuracy.png", "figures/accuracy.svg"]
    assert "figures/accuracy_per_epoch.png" not in names


def test_equal_comparisons_give_equal_markdown() -> None:
    assert render_markdown(two_runs(), {}) == render_markdown(two_runs(), {})


def test_the_markdown_refers_to_the_figures() -> None:
    comparison = two_runs()
    markdown = render_markdown(comparison, comparison_figures(comparison))
    assert "![Test ROC and its area (AUC)](figures/roc.png)" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| #1 ")]
    heads = [line for line in markdown.splitlines() if line.startswith("|  |")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == len(re.findall(r"(?<!\\)\|", heads[0]))


def test_the_metrics_table_marks_the_paper() -> None:
    found = metrics_table(two_runs())
    assert [row[0].text for row in found.rows] == ["#1", "#2", "paper", "paper"]
    assert found.rows[2][3].text == "91.82%"
    assert found.rows[2][3].small == "89.2 to 93.8, our estimate"
    assert found.rows[3][1].small == "89.82% in its running text; 89.10% in its conclusion"
    assert all(len(row) == len(found.columns) for row in found.rows)
    assert found.rows[0][3].strong
    assert not found.rows[1][3].strong


def test_the_papers_intervals_overlap() -> None:
    inception, mobilenet = PAPER
    assert inception.interval.low < mobilenet.interval.high


def test_the_configs_table_is_readable() -> None:
    found = configs_table(two_runs())
    cells = {name: [row[i].text for row in found.rows] for i, name in enumerate(found.columns)}
    assert cells["parameters"] == ["2.23 M", "21.8 M"]
    assert cells["multiply-adds"] == ["57.4 M", "5.7 G"]
    assert cells["latency"] == ["4.2 ms", "11.9 ms"]
    assert cells["training"] == ["1 min 11 s", "1 h 6 min"]
    assert cells["depth"] == ["-", "6"]


def test_rows_of_pairs_and_seeds_fit_their_columns() -> None:
    same = {"note": ""}
    comparison = compare(
        [run(f"s{i}", table(i, 1.0), params=same | {"seed": str(i)}) for i in range(2)] + [run("x", table(5, 3.0))],
        n_resamples=200,
    )
    for made in (pairs_table(comparison), seeds_table(comparison)):
        assert made.rows
        assert all(len(row) == len(made.columns) for row in made.rows)


def test_a_single_class_has_no_auroc_and_no_roc() -> None:
    men = table(1, 1.0)
    only = men.labels == 1
    kept = [i for i in range(len(men)) if only[i]]
    single = type(men)(
        names=tuple(men.names[i] for i in kept), keys=tuple(men.keys[i] for i in kept), labels=men.labels[only],
        probabilities=men.probabilities[only],
    )  # fmt: skip
    comparison = compare([run("men", single, tags=CELEBA)], n_resamples=200)
    assert metrics_table(comparison).rows[0][8].small == "one class only"
    figures = comparison_figures(comparison)
    assert "roc" not in figures
    assert "accuracy_by_attribute" not in figures
    assert "accuracy_against_latency" not in figures
    assert render_html(comparison, figures).count("One run compared with the paper") == 2


def test_figures_show_eight_runs_and_say_so() -> None:
    comparison = compare([run(f"r{i}", table(i, 1.0)) for i in range(9)], n_resamples=100)
    figure = comparison_figures(comparison)["accuracy_per_epoch"]
    assert len(figure.axes[0].get_legend().get_texts()) == 8
    assert "The first 8 of 9 runs." in figure.get_supxlabel()


def test_synthetic_data_is_named_in_every_figure() -> None:
    comparison = compare(
        [run(f"r{i}", table(i, 1.0), tags={"synthetic": "true"}, costs=ModelCosts(latency_ms=1.0)) for i in range(2)],
        n_resamples=100,
    )
    figures = comparison_figures(comparison, black_images)
    assert len(figures) == 8
    for name, figure in figures.items():
        assert "Synthetic data" in figure.get_supxlabel(), name


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1.0, 0.5), (2.0, 0.9), (3.0, 0.8)], [0, 1]),
        ([(2.0, 0.9), (1.0, 0.9)], [1]),
        ([(1.0, 0.5), (1.0, 0.7)], [1]),
        ([], []),
    ],
)
def test_the_pareto_front(points: list[tuple[float, float]], expected: list[int]) -> None:
    assert pareto_front(points) == expected


def test_accuracy_by_attribute() -> None:
    comparison = compare([run("a", table(1, 1.0))], n_resamples=100)
    (compared_run,) = comparison.runs
    (found,) = compared_run.predictions.attribute_accuracies()
    has = compared_run.predictions.attributes["Eyeglasses"] == 1
    assert found.n_present == 40
    assert found.present == pytest.approx(compared_run.predictions.correct[has].mean())
    assert found.absent == pytest.approx(compared_run.predictions.correct[~has].mean())


def test_the_first_screen_is_the_answer_and_its_proof() -> None:
    comparison = two_runs()
    page = render_html(comparison, comparison_figures(comparison))
    answer, chart, first_table = (page.index(text) for text in ('class="answer"', 'class="intervals"', "<table>"))
    assert answer < chart < first_table
    assert page.count('role="listitem"') == 2
    shown = interval_chart(comparison)
    assert [row.name for row in shown.rows] == ["#1 mobile", "#2 inception"]
    assert [row.note for row in shown.rows] == ["highest", ""]
    for row, one in zip(shown.rows, comparison.runs, strict=True):
        value, low, high = one.metrics["accuracy"]
        assert row.value == f"{100 * value:.1f}"
        assert 0 <= row.left < row.at < row.left + row.width <= 100
        # The scale is linear: positions and values have the same proportions.
        assert (row.at - row.left) / row.width == pytest.approx((value - low) / (high - low), abs=0.01)
    assert shown.best == shown.rows[0].at


def test_runs_that_cannot_be_told_from_the_best_are_rings() -> None:
    comparison = compare([run(f"r{i}", table(i, 1.0)) for i in range(3)], n_resamples=200)
    shown = interval_chart(comparison)
    assert [row.tied for row in shown.rows] == [False, True, True]
    assert shown.rows[1].note == "tied with #1"


def test_the_chart_shows_the_best_of_many_runs_of_every_group() -> None:
    others = [run(f"o{i:02d}", table(i, 1.0, first=600)) for i in range(3)]
    comparison = compare([*(run(f"r{i:02d}", table(i, 1.0)) for i in range(25)), *others], n_resamples=100)
    shown = interval_chart(comparison)
    assert [row.note.partition(",")[0] for row in shown.rows] == ["group A"] * 10 + ["group B"] * 3
    assert shown.caption.endswith("15 more are in the table.")


def test_validation_numbers_are_marked_on_the_page_in_the_tables_and_figures() -> None:
    records = [run(f"r{i}", table(i, 1.0), tags=CELEBA) for i in range(2)]
    comparison = compare(records, part="val", n_resamples=100)
    figures = comparison_figures(comparison)
    page = Page(render_html(comparison, figures))
    markdown = render_markdown(comparison, figures)
    for text in (page.text, markdown):
        assert "Comparison of 2 runs on validation images" in text
        assert "Validation metrics" in text
        assert "These numbers are from the validation images" in text
        assert "91.82%" not in text  # the paper has none
        assert not re.search("[Tt]est (metrics|images|accuracy)", text)
    assert "Validation ROC" in markdown
    assert "Test" not in " ".join(figure.get_suptitle() for figure in figures.values())


def test_what_is_left_out_is_said_on_the_first_screen() -> None:
    left_out = ["1,998 pruned trials are not compared.", "The 200 best of 3,000 runs by val/accuracy are compared."]
    comparison = compare([run("a", table(1, 1.0))], left_out=left_out, n_resamples=100)
    page = render_html(comparison, {})
    assert page.index("1,998 pruned trials") < page.index("<table>") < page.rindex("The 200 best of 3,000")
    assert '<a href="#left-out">1 more left out</a>' in page
