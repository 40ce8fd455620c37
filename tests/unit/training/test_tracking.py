from eyegender.tracking.run_names import short_value, trial_name
from eyegender.training.tracking import flatten, name_of
from tests.composing import tiny_config


def named(*overrides: str) -> str:
    cfg = tiny_config()
    return name_of(cfg, list(overrides), flatten(cfg.model_dump(mode="json", by_alias=True)), None)


def test_a_run_is_named_by_what_it_overrides_without_ambiguous_keys() -> None:
    overrides = ["model=mobilenet_v2", "seed=1", "data.split.seed=0", "+data.size=96", "tracking.x=y", "model.lr=1"]
    assert named(*overrides) == "mobilenet_v2 · seed 1 · split.seed 0 · size 96 · lr 1"


def test_a_key_that_is_given_twice_stands_once_with_its_last_value() -> None:
    assert named("model.lr=1e-2", "data.size=96", "model.lr=0.00213456") == "mobilenet_v2 · lr 2.13e-3 · size 96"


def test_a_path_is_shortened_to_its_file_name() -> None:
    assert named("model.weights=/a/b/c.pth") == "mobilenet_v2 · weights c.pth"


def test_a_trial_is_named_by_its_number_and_its_parameters() -> None:
    params = {"model.finetune_depth": 8, "model.lr": 0.0013}
    assert trial_name(3, params, [*params, "model.head_lr"]) == "trial 3 · depth 8 · lr 1.3e-3"


def test_a_long_name_ends_after_a_whole_value() -> None:
    name = trial_name(7, {f"section.key{i}": 0.123456 for i in range(20)}, [])
    assert len(name) <= 120
    assert name.endswith(" · key7 0.123 …")


def test_numbers_have_three_significant_digits_and_other_values_stay() -> None:
    shown = [short_value(value) for value in (0.0010234567, 1e-4, 0.5, 0, 96, 123456, 1.5e7, "nan", True, "null")]
    assert shown == ["1.02e-3", "1e-4", "0.5", "0", "96", "123456", "1.5e7", "nan", "True", "null"]
