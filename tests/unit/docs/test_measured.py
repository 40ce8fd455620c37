"""README's figures are those of benchmarks/RESULTS.md."""

from __future__ import annotations

import re

from tests.unit.docs.pages import ROOT


def test_readme_quotes_what_the_benchmarks_wrote() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Measured\n")[2].partition("\n## ")[0]
    rows = {line for line in section.splitlines() if line.startswith("|")}
    results = (ROOT / "benchmarks/RESULTS.md").read_text()
    assert any(re.search(r"\d", row) for row in rows)
    assert rows <= set(results.splitlines())


def test_each_result_names_the_command_that_prints_it() -> None:
    names = re.findall(r"^## (\w+)$", (ROOT / "benchmarks/RESULTS.md").read_text(), re.MULTILINE)
    commands = re.findall(r"^`python -m benchmarks\.(\w+)", (ROOT / "benchmarks/RESULTS.md").read_text(), re.MULTILINE)
    assert names == commands
    assert all((ROOT / f"benchmarks/{name}.py").is_file() for name in names)
    assert "sweep" in names
