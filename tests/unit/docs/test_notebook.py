"""docs/notebook.ipynb and the page on Python as they are stored."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import eyegender
from tests.unit.docs.pages import ROOT

NOTEBOOK = json.loads((ROOT / "docs/notebook.ipynb").read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
PAGE = (ROOT / "docs/python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_notebook_is_stored_without_outputs_and_paths() -> None:
    for cell in NOTEBOOK["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    text = json.dumps(NOTEBOOK)
    assert "/home/" not in text
    assert str(Path(ROOT).parent) not in text


def test_there_is_code() -> None:
    assert len(CODE) > 5
    assert len(BLOCKS) > 5


@pytest.mark.parametrize("code", [*CODE, *BLOCKS])
def test_all_names_of_eyegender_are_public(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "eyegender":
            assert node.attr in eyegender.__all__


def test_the_page_names_every_function() -> None:
    assert [name for name in eyegender.__all__ if name not in PAGE] == []
