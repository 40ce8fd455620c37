from __future__ import annotations

from pathlib import Path

import pytest

from eyegender.tracking.location import Location, find_location
from tests.stores import give_store


@pytest.fixture
def location(tmp_path: Path) -> Location:
    """A local store with empty tables."""
    give_store(tmp_path / "project" / "mlruns")
    return find_location(None, str(tmp_path / "project" / "mlruns"))
