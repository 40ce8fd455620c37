"""Freed memory is reused without the kernel, which shows in the number of page faults."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from tests import processes

CHILD = """
import resource, sys
import torch
from eyegender.training.autotune import tune_malloc
if sys.argv[1] == "tuned":
    assert tune_malloc()
for _ in range(5):
    torch.ones(10_000_000)  # 40 MB; up to 32 MB, glibc itself learns to keep what was freed
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator only")
def test_freed_pages_are_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("MALLOC_", "GLIBC_")):
            monkeypatch.delenv(name)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    tuned, default = (processes.run(str(script), how) for how in ("tuned", "default"))
    assert (tuned.returncode, default.returncode) == (0, 0), tuned.stderr + default.stderr
    assert int(tuned.stdout) * 20 < int(default.stdout)
