"""The output folder of a run as a model: its config says what the model was trained on."""

from __future__ import annotations

from pathlib import Path

import yaml

from eyegender.core.schema import TrackingSection
from eyegender.inference.load import load_model
from eyegender.models.saved_network import ModelSpec, save_network, untrained
from tests.composing import tiny_config

SPEC = ModelSpec("eyegender.models.mobilenet_v2.MobileNetV2", "linear", 0, 32, "gray", ("female", "male"))
TRACKING = TrackingSection(experiment="e", run_name=None, close_timeout=0, uri=None, root=None)


def output(folder: Path, network: str) -> Path:
    cfg = tiny_config("data.n=70", "data.size=32", "seed=9")
    (folder / network).mkdir(parents=True)
    save_network(untrained(SPEC), SPEC, folder / network)
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg.model_dump(mode="json", by_alias=True)))
    return folder


def test_the_data_of_a_run_is_known_from_its_output_folder(tmp_path: Path) -> None:
    folder = output(tmp_path / "run", "model/network")
    for reference in (folder, folder / "model", folder / "model" / "network"):
        model = load_model(str(reference), TRACKING)
        assert model.config is not None
        assert model.config.seed == 9
        assert model.config.data.reader.arguments["n"] == 70


def test_another_config_beside_a_network_is_not_read(tmp_path: Path) -> None:
    for place in ("network", "mine/network", "a/b/network"):
        folder = output(tmp_path / place.replace("/", "-"), place)
        assert load_model(str(folder / place), TRACKING).config is None
