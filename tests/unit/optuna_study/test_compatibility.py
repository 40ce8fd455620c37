"""A config written for hydra-optuna-sweeper works after changing one line."""

import textwrap

import pytest
import yaml

from hydra_plugins.optuna_study import StudyError

from .sweeping import load, multirun

# The documented sphere example of hydra-optuna-sweeper, but for `override hydra/sweeper: optuna_study`.
SPHERE = """
defaults:
  - _self_
  - override hydra/sweeper: optuna_study
  - override hydra/sweeper/sampler: {sampler}

hydra:
  sweeper:
    {seed}
    direction: minimize
    study_name: sphere
    storage: {storage}
    n_trials: 20
    n_jobs: 1
    params:
      x: range(-5.5, 5.5, step=0.5)
      y: choice(-5 ,0 ,5)

x: 1
y: 1
z: 1
"""


def sphere(cfg):
    if cfg.get("error", False):
        raise RuntimeError("cfg.error is True")
    return cfg.x**2 + cfg.y**2


@pytest.mark.parametrize("storage", ["null", "sqlite:///sphere.db"])
@pytest.mark.parametrize("sampler", ["grid", "tpe", "random", "cmaes", "nsgaii", "qmc", "gp"])
def test_the_sphere_example(tmp_path, sampler, storage):
    pytest.importorskip({"cmaes": "cmaes", "gp": "torch"}.get(sampler, "optuna"))
    if storage != "null" and sampler not in ("grid", "tpe"):
        pytest.skip("one sampler of each kind is enough for the file")
    seed = "n_jobs: 1" if sampler == "grid" else "sampler: {seed: 123}"
    written = SPHERE.format(sampler=sampler, storage=storage, seed=seed)
    (tmp_path / "sphere.yaml").write_text(written.replace("    n_jobs: 1\n    direction", "    direction"))
    # Two more than the ten random trials with which TPE and GP start.
    n_trials = "hydra.sweeper.n_trials=12"
    status = multirun(sphere, "hydra.sweep.dir=out", n_trials, config_dir=tmp_path, name="sphere")
    results = yaml.safe_load((tmp_path / "out/optimization_results.yaml").read_text())
    assert status.counts.complete == 12
    assert set(results) == {"name", "best_params", "best_value"}
    assert set(results["best_params"]) == {"x", "y"}
    assert results["best_value"] == results["best_params"]["x"] ** 2 + results["best_params"]["y"] ** 2


def test_the_older_spelling_of_a_search_space(tmp_path):
    config = """
    defaults: [_self_, override hydra/sweeper: optuna_study]
    hydra:
      sweeper:
        study_name: old
        storage: sqlite:///old.db
        n_trials: 6
        search_space:
          x: {type: float, low: -5.5, high: 5.5, step: 0.5}
          y: {type: categorical, choices: [-5, 0, 5]}
          z: {type: int, low: 1, high: 8, log: true}
    x: 1
    y: 1
    z: 1
    """
    (tmp_path / "old.yaml").write_text(textwrap.dedent(config))
    multirun(sphere, config_dir=tmp_path, name="old")
    distributions = load("old", "sqlite:///old.db").trials[0].distributions
    assert (distributions["x"].low, distributions["x"].high, distributions["x"].step) == (-5.5, 5.5, 0.5)
    assert distributions["y"].choices == (-5, 0, 5)
    assert distributions["z"].log


CUSTOM = """
defaults: [_self_, override hydra/sweeper: optuna_study]
hydra:
  sweeper:
    sampler: {seed: 123}
    direction: minimize
    study_name: custom
    storage: sqlite:///custom.db
    n_trials: 5
    n_jobs: 1
    params:
      x: range(-5.5, 5.5, 0.5)
      y: choice(-5, 0, 5)
    custom_search_space: tests.unit.optuna_study.test_compatibility.configure
x: 1
y: 1
z: 100
w: 0
max_z_difference_from_x: 0.5
"""


def configure(cfg, trial):
    low, high = (trial.params["x"] + sign * cfg.max_z_difference_from_x for sign in (-1, 1))
    trial.suggest_float("z", low, high)
    trial.suggest_float("w", 0.0, 1.0)


def test_a_custom_search_space(tmp_path):
    (tmp_path / "custom.yaml").write_text(CUSTOM)
    seen = []

    def task(cfg):
        seen.append((cfg.x, cfg.z, cfg.w))
        return cfg.x**2 + cfg.y**2 + cfg.z**2 + cfg.w**2

    multirun(task, config_dir=tmp_path, name="custom")
    assert len(seen) == 5
    assert all(abs(x - z) <= 0.5 and 0 <= w <= 1 for x, z, w in seen)
    assert set(load("custom", "sqlite:///custom.db").trials[0].params) == {"x", "y", "z", "w"}
    with pytest.raises(StudyError, match="must not suggest what is fixed, got w"):
        multirun(task, "w=1", "hydra.sweeper.study_name=other", config_dir=tmp_path, name="custom")


def test_several_objectives(tmp_path):
    written = SPHERE.format(sampler="nsgaii", storage="null", seed="sampler: {seed: 123}")
    written = written.replace("minimize", "[minimize, minimize]").replace("choice(-5 ,0 ,5)", "range(0, 3, step=0.5)")
    (tmp_path / "mo.yaml").write_text(written)
    multirun(lambda cfg: (4 * cfg.x**2 + 4 * cfg.y**2, (cfg.x - 5) ** 2 + (cfg.y - 5) ** 2), "hydra.sweep.dir=out",
             config_dir=tmp_path, name="mo")  # fmt: skip
    results = yaml.safe_load((tmp_path / "out/optimization_results.yaml").read_text())
    assert set(results) == {"name", "solutions"}
    assert all(set(solution) == {"params", "values"} for solution in results["solutions"])
