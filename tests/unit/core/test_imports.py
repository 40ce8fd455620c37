"""Imports without garbage collection leave the collector as they found it."""

import gc
import subprocess
import sys

import pytest

from eyegender.core.imports import without_collection


def fail_without_collection() -> None:
    with without_collection():
        assert not gc.isenabled()
        raise ImportError


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_off_inside_and_as_before_afterwards_even_after_an_error(enabled: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ImportError):
            fail_without_collection()
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_only_a_process_s_first_imports_are_kept_from_the_collector() -> None:
    """Later ones may find a trial's objects, which must be collected."""
    code = """
import gc
from eyegender.core.imports import imports_of_command
with imports_of_command(): pass
first = gc.get_freeze_count()
held = [[] for _ in range(1000)]
with imports_of_command(): pass
assert first > 0 and gc.isenabled()
assert gc.get_freeze_count() <= first, (first, gc.get_freeze_count())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
