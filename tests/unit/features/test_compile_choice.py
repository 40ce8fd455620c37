from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eyegender.features import compile_choice
from eyegender.features.compile_choice import compiling_pays

CPU = torch.device("cpu")


class Steps:
    """Steps that take what they are told on a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.plain, self.compiled, self.cost = 0.0, 1.0, 0.5, 101.0
        self.calls: list[str] = []
        monkeypatch.setattr("time.process_time", lambda: self.now)
        monkeypatch.setattr(compile_choice, "compiler", lambda: "g++")

    def pays(self, number: float, cache: Path) -> bool:
        return compiling_pays("a step", self._plain, self._compiled, number=number, device=CPU, cache=cache)

    def _plain(self) -> None:
        self.calls.append("plain")
        self.now += self.plain

    def _compiled(self) -> None:
        self.now += self.compiled if "compiled" in self.calls else self.cost
        self.calls.append("compiled")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_a_short_run_does_not_even_try(steps: Steps, tmp_path: Path) -> None:
    assert not steps.pays(1900, tmp_path)  # three tenths of its 1900 s are less than a try is worth on a CPU
    assert set(steps.calls) == {"plain"}


def test_a_longer_one_pays_once_it_saves_what_compiling_takes(steps: Steps, tmp_path: Path) -> None:
    steps.cost = 1200
    assert not steps.pays(2400, tmp_path)  # 1200 s would be saved, and compiling takes as long
    assert steps.pays(2500, tmp_path)
    assert steps.calls.count("compiled") == 5


@pytest.mark.parametrize(("compiled", "pays"), [(0.8, True), (0.95, False), (1.2, False)])
def test_noise_does_not_choose(steps: Steps, compiled: float, pays: bool, tmp_path: Path) -> None:
    steps.compiled = compiled
    assert steps.pays(1e6, tmp_path) == pays


def test_what_cannot_be_compiled_is_a_quiet_no_and_not_tried_again(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        steps.calls.append("compiled")
        raise RuntimeError("no such header")

    monkeypatch.setattr(steps, "_compiled", fail)
    assert not steps.pays(1e6, tmp_path)
    assert not steps.pays(1e6, tmp_path)
    assert steps.calls.count("compiled") == 1
    assert caplog.text == ""


def test_no_compiler_is_a_quiet_no(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert not compiling_pays(
        "a step", lambda: pytest.fail("ran"), lambda: None, number=1e9, device=CPU, cache=tmp_path
    )
    assert list(tmp_path.iterdir()) == []
