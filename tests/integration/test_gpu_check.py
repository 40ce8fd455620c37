"""`python -m benchmarks.gpu` with small sizes: every table has its rows, so that on a GPU only the numbers are new."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measuring import environment

CASES = ["mobilenet_v2@32", "inception_v3@75"]
# First cells of the rows of each table.
TABLES = {
    "Full fine-tuning, images per second": CASES,
    "Peak memory and first step of those runs": CASES,
    "What the device waits for in a tracked run": [case for case in CASES for _ in range(2)],
    "The longest gaps": [case for case in CASES for _ in range(8)],
    "The plain stack, images per second": CASES,
    "Head-only training from stored activations": CASES,
    "A sweep of 2 trials on one device": ["1", "2"],
    "Bare loop, images per second": [case for case in CASES for _ in range(4)],
    "Compiled steps in the bare loop, images per second": CASES,
}


@pytest.mark.integration
@pytest.mark.timeout(1500)
def test_every_table_has_its_rows(tmp_path: Path) -> None:
    out = tmp_path / "results.md"
    command = [
        sys.executable, "-m", "benchmarks.gpu", "size=small", f"out={out}", "seconds=1400",
        "parts=training,gaps,plain,store,sweep,precision,compile",
    ]  # fmt: skip
    # Compiling for a CPU takes minutes; test_compile.py has it.
    env = environment(TORCHDYNAMO_DISABLE="1")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    text = out.read_text()
    found = {}
    for title, table in re.findall(r"^(.+):\n\n((?:\|.*\n)+)", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]
        assert all(cell != "" for row in rows for cell in row[:-1]), title
        found[title] = [row[0] for row in rows]
    assert found == TABLES
    assert [path.name for path in tmp_path.iterdir()] == ["results.md"]  # everything else was temporary
