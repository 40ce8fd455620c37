"""The figures of docs/benchmarks.md are those of benchmarks/RESULTS.md, and the page names every benchmark command."""

from __future__ import annotations

import re

from tests.unit.docs.pages import ROOT

PAGE = (ROOT / "docs/benchmarks.md").read_text()
RESULTS = (ROOT / "benchmarks/RESULTS.md").read_text()


def test_the_page_quotes_what_the_benchmarks_wrote() -> None:
    measured, _, _ = PAGE.partition("\n## What each command measures\n")
    rows = {line for line in measured.splitlines() if line.startswith("|")}
    assert any(re.search(r"\d", row) for row in rows)
    assert rows <= set(RESULTS.splitlines())


def test_each_result_names_the_command_that_prints_it() -> None:
    names = re.findall(r"^## (\w+)(?:: .+)?$", RESULTS, re.MULTILINE)
    commands = re.findall(r"^`python -m benchmarks\.(\w+)", RESULTS, re.MULTILINE)
    assert names == commands
    assert all((ROOT / f"benchmarks/{name}.py").is_file() for name in names)
    assert "sweep" in names


def test_the_page_says_what_each_command_measures() -> None:
    commands = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()}
    described = re.findall(r"^\| `python -m benchmarks\.(\w+)` \| \w", PAGE, re.MULTILINE)
    assert sorted(described) == sorted(commands)
