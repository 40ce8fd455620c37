"""Damaged input, a little of it and always the same; `python -m benchmarks.fuzz` does the same in numbers."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import fuzz_annotations, fuzz_overrides, fuzz_pictures
from benchmarks.mutation import KINDS, mutated
from eyegender.core.secrets import redact
from eyegender.data.decode import decode, read_header
from eyegender.data.readers import UnreadableImageError
from eyegender.features.store import ActivationStore, DamagedActivationsError
from eyegender.tracking.stored_config import parse_config
from hydra_plugins.optuna_study import override_without_secrets

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
quiet = settings(
    derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("kind", list(KINDS))
def test_damaged_images(kind: str) -> None:
    tally = fuzz_pictures(kind, 150, seed=0)
    assert not tally.faults, tally.faults
    assert tally.outcomes["works"] > 5
    assert tally.outcomes["refused"] > 5


def test_damaged_annotations(tmp_path: Path) -> None:
    tally = fuzz_annotations(80, 0, tmp_path / "celeba")
    assert not tally.faults, tally.faults
    assert len(tally.reasons) > 10


def test_random_command_lines(tmp_path: Path) -> None:
    tally = fuzz_overrides(40, 0, tmp_path)
    assert not tally.faults, tally.faults
    assert tally.outcomes["refused"] > 5


def test_a_fault_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzz test must be able to fail."""
    monkeypatch.setattr("benchmarks.fuzz.decode", lambda data: data.decode())
    assert fuzz_pictures("PNG", 3, seed=0).faults


@quiet
@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\0\0\0\0WEBP"])
)
def test_any_bytes_are_an_image_or_unreadable(data: bytes, start: bytes) -> None:
    width, height = read_header(start + data)
    assert width >= 0
    assert height >= 0
    with suppress(UnreadableImageError):
        assert decode(start + data).mode in {"L", "RGB"}


@quiet
@given(st.text(max_size=200))
def test_any_text_is_a_config_or_not(text: str) -> None:
    parse_config(text)
    parse_config(f"data: {text}\nmodel: {{}}\nseed: 1")


@quiet
@given(st.text(st.characters(exclude_characters="\0@'\"$\\", exclude_categories=["Z", "C"]), min_size=4, max_size=20))
def test_no_password_stays_in_an_override(password: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydra_plugins.optuna_study._redaction._registered", set())
        line = override_without_secrets(f"tracking.uri=http://me:{password}/@host:5000")
        assert password not in line.replace("oc.env:STUDY_SECRET_", "")
        assert redact(f"at http://me:{password}@host") == "at http://me:***@host"


@quiet
@given(st.integers(0, 10_000))
def test_any_manifest_is_a_store_or_damaged(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    whole = b'{"format": 1, "pictures": 2, "views": 1, "row_shape": [2], "dtype": "float32"}'
    numbers = [b"0", b"-1", b"1e400", b"9" * 40, b"null", b"[]", b"true", b"4611686018427387904,4"]
    damaged = whole.replace(b"[2]", b"[" + chance.choice(numbers) + b"]")
    (tmp_path / "manifest.json").write_bytes(damaged if chance.random() < 0.5 else mutated(whole, chance))
    (tmp_path / "activations.bin").write_bytes(b"")
    (tmp_path / "rows.crc32").write_bytes(bytes(8))
    with suppress(DamagedActivationsError):
        ActivationStore(tmp_path, 2, 1)
        pytest.fail("an empty file is not a store")
