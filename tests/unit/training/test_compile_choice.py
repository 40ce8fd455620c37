from __future__ import annotations

from pathlib import Path

import pytest

from eyegender.training.autotune import compiling_pays


class Steps:
    """Steps of given lengths on a simulated clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.plain, self.compiled, self.cost = 0.0, 1.0, 0.5, 101.0
        self.calls: list[str] = []
        monkeypatch.setattr("time.process_time", lambda: self.now)

    def pays(self, steps: float, cache: Path) -> bool:
        return compiling_pays("a step", self._plain, self._compiled, steps=steps, cache=cache)

    def _plain(self) -> None:
        self.calls.append("plain")
        self.now += self.plain

    def _compiled(self) -> None:
        self.now += self.compiled if "compiled" in self.calls else self.cost
        self.calls.append("compiled")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_a_short_run_does_not_try(steps: Steps, tmp_path: Path) -> None:
    assert not steps.pays(11_900, tmp_path)  # trying may take 120 s, which is more than a hundredth of the run
    assert set(steps.calls) == {"plain"}


def test_compiling_pays_if_it_saves_more_than_it_takes(steps: Steps, tmp_path: Path) -> None:
    steps.cost, steps.compiled = 1400, 0.89
    assert not steps.pays(12_000, tmp_path)  # 1,320 s would be saved
    assert steps.pays(13_000, tmp_path)  # 1,430 s
    assert steps.calls.count("compiled") == 5


def test_a_short_run_does_not_follow_what_a_long_one_has_measured(steps: Steps, tmp_path: Path) -> None:
    assert steps.pays(1e6, tmp_path)
    assert not steps.pays(11_900, tmp_path)


@pytest.mark.parametrize(("compiled", "pays"), [(0.8, True), (0.95, False), (1.2, False)])
def test_noise_does_not_choose(steps: Steps, compiled: float, pays: bool, tmp_path: Path) -> None:
    steps.compiled = compiled
    assert steps.pays(1e6, tmp_path) == pays


def test_a_failed_compilation_is_not_logged_and_not_tried_again(
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
