from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from eyegender.core.errors import UserError
from eyegender.models.mobilenet_v2 import MobileNetV2
from eyegender.models.weights import load_weights


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return MobileNetV2.torchvision_network().state_dict()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache and an address where nothing answers."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    address = SimpleNamespace(url="http://127.0.0.1:9/mobilenet_v2-b0353104.pth")
    monkeypatch.setattr(MobileNetV2, "imagenet", lambda: address)
    return tmp_path / "hub"


class Planted:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_fills_the_stages_and_its_classifier_may_differ(
    state: dict[str, torch.Tensor], tmp_path: Path, suffix: str
) -> None:
    given = {**state, "classifier.1.weight": torch.zeros(7, 1280), "classifier.1.bias": torch.zeros(7)}
    path = tmp_path / f"w{suffix}"
    save_file(given, path) if suffix == ".safetensors" else torch.save(given, path)
    backbone = MobileNetV2()
    found = load_weights(backbone, str(path))
    assert found.kind == "file"
    assert len(found.sha256) == 64
    torch.testing.assert_close(backbone.stages[0][0].weight, state["features.0.0.weight"], rtol=0, atol=0)
    torch.testing.assert_close(backbone.stages[18][1].running_var, state["features.18.1.running_var"], rtol=0, atol=0)


def test_counters_missing_in_old_files_are_zero(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "w.pth")
    backbone = MobileNetV2()
    load_weights(backbone, str(tmp_path / "w.pth"))
    assert not any(tensor.is_meta for tensor in backbone.state_dict().values())


def test_a_missing_key_is_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({k: v for k, v in state.items() if k != "features.3.conv.2.weight"}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"features\.3\.conv\.2\.weight is missing"):
        load_weights(MobileNetV2(), str(tmp_path / "w.pth"))


def test_a_misshapen_key_is_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({**state, "features.0.0.weight": torch.zeros(32, 1, 3, 3)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"features\.0\.0\.weight is \(32, 1, 3, 3\), not \(32, 3, 3, 3\)"):
        load_weights(MobileNetV2(), str(tmp_path / "w.pth"))


def test_a_planted_pickle_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"x": Planted(tmp_path / "planted")}))
    torch.save({"x": Planted(tmp_path / "planted")}, tmp_path / "v.pth")
    for name in ("w.pth", "v.pth"):
        with pytest.raises(UserError, match="not loaded|cannot be read"):
            load_weights(MobileNetV2(), str(tmp_path / name))
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("content", [b"hello\n", b"e", bytes(range(256))])
def test_a_file_of_another_format_is_called_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_weights(MobileNetV2(), str(tmp_path / "w.pth"))
    reason = str(caught.value)
    assert " (no file that torch.save or safetensors wrote); download" in reason or "not loaded" in reason


@pytest.mark.parametrize("content", [b"", b"<html>quota</html>"])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            load_weights(MobileNetV2(), str(tmp_path / name))


def test_imagenet_offline_is_an_error_with_instructions(offline: Path) -> None:
    with pytest.raises(UserError, match=f"put it into {offline}.*model.weights=FILE"):
        load_weights(MobileNetV2(), "imagenet")


def test_auto_offline_warns_loudly_and_marks_the_run(offline: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = load_weights(MobileNetV2(), "auto")
    assert found.fallback
    assert found.kind == "random"
    assert "NO PRE-TRAINED WEIGHTS" in caplog.text


def test_auto_takes_the_cached_file(offline: Path, state: dict[str, torch.Tensor]) -> None:
    (offline / "checkpoints").mkdir(parents=True)
    torch.save(state, offline / "checkpoints" / "mobilenet_v2-b0353104.pth")
    assert load_weights(MobileNetV2(), "auto").kind == "imagenet"


def test_real_weights_load(real_weights: Path) -> None:
    assert load_weights(MobileNetV2(), str(real_weights)).kind == "file"
