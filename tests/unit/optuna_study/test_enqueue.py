"""Configs that a sweep tries first: `enqueue`."""

import shutil

import pytest

from hydra_plugins.optuna_study import StudyError

from .sweeping import HERE, load, multirun, states


def test_enqueued_configs_come_first(sweep):
    sweep("hydra.sweeper.enqueue=[{x: 0.5, y: 0.25}, {x: 1}]", "hydra.sweeper.n_trials=3")
    assert load().trials[0].params == {"x": 0.5, "y": 0.25}
    assert load().trials[1].params["x"] == 1
    assert len(load().trials) == 3


def test_nothing_is_enqueued_in_a_finished_study(sweep):
    sweep("hydra.sweeper.n_trials=2")
    sweep("hydra.sweeper.n_trials=2", "hydra.sweeper.enqueue=[{x: 1, y: 1}]")
    assert states() == ["COMPLETE"] * 2
    sweep("hydra.sweeper.n_trials=3", "hydra.sweeper.enqueue=[{x: 1, y: 1}]")
    assert load().trials[2].params == {"x": 1, "y": 1}


FIRST = """
defaults: [config, _self_]
hydra:
  sweeper:
    n_trials: 2
    enqueue:
      - {x: 0.5, y: 0.25}
      - {%s: 1}
"""


@pytest.fixture
def sweep_of_file(sweep, tmp_path):
    """Sweeps a config whose own file enqueues two entries, the second one with this key."""
    import toy

    def run(second, *overrides):
        shutil.copytree(HERE / "conf", tmp_path / "conf")
        (tmp_path / "conf/first.yaml").write_text(FIRST % second)
        return multirun(toy.main.__wrapped__, *overrides, config_dir=tmp_path / "conf", name="first")

    return run


@pytest.mark.parametrize(
    ("override", "said"),
    [("y=3", "sets 'y', which this study does not sweep"), ("y=interval(3,4)", "sets 'y' to 0.25, outside its range")],
)
def test_an_enqueued_entry_that_contradicts_the_command_line_is_skipped(sweep_of_file, capsys, override, said):
    sweep_of_file("x", override)
    assert load().trials[0].params["x"] == 1
    assert len(load().trials) == 2
    lines = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped an enqueued configuration: ")
    ]
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        (
            "hydra.sweeper.enqueue=[{x: 0, y: 0}]",
            "'y', which this study does not sweep",
        ),  # both on the command line
        ("mode=ok", "'depth', which this study does not sweep"),  # the file's own mistake
    ],
)
def test_an_enqueued_entry_that_contradicts_no_override_is_refused(sweep_of_file, override, rule):
    with pytest.raises(StudyError, match=rule):
        sweep_of_file("depth", "y=3", override)
    assert not load().trials
