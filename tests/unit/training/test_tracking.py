from eyegender.training.tracking import run_name
from tests.composing import tiny_config


def test_a_run_is_named_by_its_overrides_without_ambiguous_keys() -> None:
    overrides = ["model=mobilenet_v2", "seed=1", "data.split.seed=0", "+data.size=96", "tracking.x=y", "model.lr=1"]
    assert run_name(tiny_config(), overrides) == "mobilenet_v2 seed=1 split.seed=0 size=96 lr=1"


def test_a_path_is_shortened_to_its_file_name() -> None:
    assert run_name(tiny_config(), ["model.weights=/a/b/c.pth"]) == "mobilenet_v2 weights=c.pth"
