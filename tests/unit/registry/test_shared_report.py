"""The page of a shared report: what it shows, and what it leaves out."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eyegender.registry.card_html import to_html
from eyegender.registry.shared_report import card_text, report_figures, report_page, title_of, without_places
from tests.unit.comparison.example_runs import run, table


def page_of(record: Any, **options: Any) -> str:
    classes = ("female", "male")
    card = card_text(record, classes, folder="FOLDER")
    figures = report_figures(record, record.history, classes)
    return report_page(record, classes=classes, card=card, figures=figures, images=None, created="today", **options)


def test_the_answer_the_figures_and_the_card_are_on_one_page() -> None:
    page = page_of(run("one", table(0, 1.5)))
    assert re.search(
        r'<p class="answer">Test accuracy \d+\.\d% \(95% interval [\d.]+ to [\d.]+%\) on 120 images of 60', page
    )
    assert re.findall(r'<figure id="(\w+)"', page) == ["confusion_matrix", "roc", "reliability", "learning_curves"]
    assert page.count("<h1>") == 1
    assert "eyegender predict model=FOLDER images=DIR" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert page.count("synthetic") == 0


def test_a_run_on_synthetic_eyes_says_so_once_above_everything() -> None:
    page = page_of(run("one", table(0, 1.5), tags={"synthetic": "true"}))
    assert page.count("Trained on synthetic eyes") == 1
    assert page.index("Trained on synthetic eyes") < page.index("<figure")


def test_a_run_without_a_test_has_its_curves_and_no_card() -> None:
    record = run("one", None)
    assert card_text(record, ("a", "b"), folder=None) is None
    page = page_of(record)
    assert "The run was not tested" in page
    assert re.findall(r'<figure id="(\w+)"', page) == ["learning_curves"]


def test_names_that_look_like_html_are_text() -> None:
    record = run("<script>alert(1)</script>", table(0, 1.5))
    page = page_of(record)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert title_of(record) == "mobilenet_v2 · <script>alert(1)</script>"


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("## A *b*", "<h2>A <em>b</em></h2>"),
        ("- one\n- `two *x*`", "<ul><li>one</li><li><code>two *x*</code></li></ul>"),
        ("> **Careful.** Hot.", '<p class="warning"><strong>Careful.</strong> Hot.</p>'),
        ("a <b> & c\nd", "<p>a &lt;b&gt; &amp; c</p>\n<p>d</p>"),
        ("```\nx <y>\n# z\n```\nafter", "<pre>x &lt;y&gt;\n# z</pre>\n<p>after</p>"),
        (
            "| a | b |\n|:--|--:|\n| <i> | 2 |",
            '<div class="scroll"><table><thead><tr><th class=left>a</th><th>b</th></tr></thead>'
            "<tbody><tr><td class=left>&lt;i&gt;</td><td>2</td></tr></tbody></table></div>",
        ),
    ],
)
def test_a_card_becomes_html(markdown: str, html: str) -> None:
    assert to_html(markdown) == html


def test_folders_of_this_machine_become_their_names(tmp_path: Path) -> None:
    params = {"data.root": str(tmp_path / "eyes"), "model.weights": "imagenet", "output": "None"}
    known: Any = SimpleNamespace(
        data=SimpleNamespace(params=params, tags={"output_dir": str(tmp_path / "eyes" / "run")})
    )
    text = f"in {tmp_path}/eyes/run/x, from {tmp_path}/eyes, imagenet, http://u:secret@host"
    assert without_places(text, known) == "in run/x, from eyes, imagenet, http://u:***@host"
