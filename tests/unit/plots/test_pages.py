"""The one look of all pages."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

from eyegender.plots import style
from eyegender.plots.pages import page_css, render_page

PACKAGE = Path(style.__file__).parents[1]


def test_the_stylesheet_has_the_colours_of_the_figures() -> None:
    colours = dict(re.findall(r"--([a-z-]+): (#\w+)", page_css()))
    names = {"ink": style.INK, "quiet": style.QUIET, "line": style.FAINT, "grid": style.GRID, "blue": style.BLUE}
    names |= {"vermilion": style.VERMILION, "green": style.PALETTE[2]}
    assert {name: colours[name].lower() for name in names} == {name: value.lower() for name, value in names.items()}


def test_every_page_extends_the_one_frame() -> None:
    pages = [path for path in PACKAGE.rglob("templates/*.html") if path.parent.parent.name != "plots"]
    assert len(pages) >= 2
    for path in pages:
        text = path.read_text()
        assert text.startswith('{% extends "page.html" %}'), path
        assert "<style" not in text, path
        assert not re.search(r"(?<!&)#[0-9a-fA-F]{3,6}\b(?=[;\s])", text), f"{path} has a colour of its own"


def test_a_page_is_one_file_and_escapes_its_values(tmp_path: Path) -> None:
    template = tmp_path / "one.html"
    template.write_text(
        '{% extends "page.html" %}{% import "parts.html" as parts %}{% block title %}{{ title }}{% endblock %}'
        "{% block body %}{{ parts.grid(table) }}{% endblock %}"
    )
    cell = SimpleNamespace(text="<b>", small="<i>", strong=True)
    table = SimpleNamespace(columns=("&",), rows=((cell,),), left=1)
    page = render_page(template, title="<script>", table=table)
    assert "<script>" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "<title>&lt;script&gt;</title>" in page
    assert page_css() in page  # as it is, without escapes
    assert not re.search(r'(?:src|href)="', page)
    with pytest.raises(jinja2.UndefinedError):
        render_page(template, title="no table")
