"""Where a trial runs and what it takes for its original folder, as under Hydra's own sweeper."""

import os
import warnings
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_original_cwd, to_absolute_path

from hydra_plugins.optuna_study import StudyError

from .sweeping import load, multirun, run

FEW = ("hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.seed=0", "hydra.sweep.dir=out")


def directories() -> list[str]:
    """The stored job directories by trial, below the sweep's."""
    return [str(Path(trial.user_attrs["job_dir"]).relative_to(Path("out").absolute())) for trial in load().trials]


def test_a_trial_that_changes_directory_knows_where_the_sweep_was_started(tmp_path):
    seen = []

    def task(cfg):
        seen.append((Path.cwd(), get_original_cwd(), to_absolute_path("data"), HydraConfig.get().runtime.output_dir))
        return float(cfg.x)

    multirun(task, *FEW, "hydra.job.chdir=true")
    for number, (cwd, original, absolute, output) in enumerate(seen):
        assert cwd == tmp_path / f"out/{number}"
        assert original == str(tmp_path)
        assert absolute == str(tmp_path / "data")
        assert output == str(cwd)
    assert Path.cwd() == tmp_path


def test_an_application_of_hydra_1_1_changes_directory_and_warns(tmp_path):
    seen = []

    def task(cfg):
        seen.append((Path.cwd(), get_original_cwd()))
        return float(cfg.x)

    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        multirun(task, *FEW, version_base="1.1")
    assert any("hydra.job.chdir is true because version_base is 1.1" in str(each.message) for each in raised)
    assert seen == [(tmp_path / f"out/{number}", str(tmp_path)) for number in range(3)]


def test_a_trial_sees_the_sweeps_folder_as_under_hydras_own_sweeper():
    seen = []

    def task(cfg):
        sweep = HydraConfig.get().sweep
        seen.append((str(sweep.dir), str(sweep.subdir), HydraConfig.get().runtime.output_dir))
        return float(cfg.x)

    multirun(task, *FEW, "hydra.sweep.subdir='n${hydra:job.num}/deep'")
    assert seen == [("out", f"n{number}/deep", str(Path(f"out/n{number}/deep").absolute())) for number in range(3)]
    seen.clear()
    multirun(task, *FEW, "hydra.sweep.subdir='../up/${hydra:job.num}'", "hydra.sweeper.study_name=up")
    assert seen == [("out", f"../up/{number}", str(Path(f"up/{number}").absolute())) for number in range(3)]
    seen.clear()
    equal = ("~hydra.sweeper.params.y", "x=choice(1)", "hydra.sweeper.study_name=equal")
    multirun(task, *FEW, *equal, "hydra.sweep.subdir='x/${x}'")
    assert [subdir for _, subdir, _ in seen] == ["x/1", "x/1_1", "x/1_2"]
    assert {root for root, _, _ in seen} == {"out"}


def test_a_task_that_changes_directory_affects_no_other_trial(tmp_path):
    folders = []

    def task(cfg):
        folders.append((Path.cwd(), get_original_cwd()))
        os.chdir("/")
        return float(cfg.x)

    multirun(task, *FEW)
    assert folders == [(tmp_path, str(tmp_path))] * 3
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("subdir", "names"),
    [
        ("${hydra.job.num}", ["0", "1", "2"]),
        ('"n${hydra:job.num}"', ["n0", "n1", "n2"]),
        ("${hydra:job.id}/here", ["0/here", "1/here", "2/here"]),
        ("${run_name}", ["run_0", "run_1", "run_2"]),
        ("${hydra:job.override_dirname}", ["shape=round", "shape=square", "shape=square_2"]),
        ("depth_${shape.depth}", ["depth_1", "depth_2", "depth_2_2"]),
    ],
)
def test_each_trial_has_a_different_directory_however_it_is_named(sweep, subdir, names, capsys):
    space = ("~hydra.sweeper.params.x", "~hydra.sweeper.params.y", "shape=choice(round,square)")
    first = ("hydra.sweeper.enqueue=[{shape: round}, {shape: square}]", "hydra.sweeper.sampler.seed=0")
    naming = ("+run_name='run_${hydra:job.num}'", "hydra.job.config.override_dirname.exclude_keys=[run_name]")
    sweep("hydra.sweep.dir=out", "hydra.sweeper.n_trials=2", *space, *first, *naming, f"hydra.sweep.subdir={subdir}")
    load().enqueue_trial({"shape": "square"})
    sweep("hydra.sweep.dir=out", "hydra.sweeper.n_trials=3", *space, *first, *naming, f"hydra.sweep.subdir={subdir}")
    assert directories() == names
    assert all((Path("out") / name / ".hydra/config.yaml").exists() for name in names)
    said = f"trial 2 has the same overrides as an earlier trial; its directory is {Path('out', names[2]).absolute()}"
    assert (said in capsys.readouterr().out) == names[2].endswith(("square_2", "2_2"))


def test_trials_with_equal_overrides_are_reported_once_and_retries_keep_their_directory(sweep, capsys):
    sweep("mode=release", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=out",
          "~hydra.sweeper.params.x", "y=choice(1)", "hydra.sweep.subdir=${hydra:job.override_dirname}")  # fmt: skip
    trials = load().trials
    expected = {trial.system_attrs.get("failed_trial", trial.number): trial.user_attrs["job_dir"] for trial in trials}
    assert [Path(path).name for path in expected.values()] == ["mode=release,y=1", "mode=release,y=1_2",
                                                           "mode=release,y=1_4"]  # fmt: skip
    for trial in trials:
        assert trial.user_attrs["job_dir"] == expected[trial.system_attrs.get("failed_trial", trial.number)]
    assert capsys.readouterr().out.count("its directory is") == 1


@pytest.mark.parametrize("subdir", ["same", "${mode}", "${hydra.job.name}"])
def test_one_directory_for_all_trials_is_refused_before_the_first(sweep, subdir):
    with pytest.raises(StudyError, match=r"hydra\.sweep\.subdir must differ from trial to trial, got .*/out/"):
        sweep(*FEW, f"hydra.sweep.subdir={subdir}")
    assert not Path("study.db").exists()


@pytest.mark.parametrize(
    "space",
    [
        ("x=choice(1)", "y=choice(2)"),  # one combination, sampled three times
        ("hydra.sweeper.custom_search_space=builtins.dict",),  # whose values no example shows
    ],
)
def test_a_constant_directory_is_refused_whatever_the_search_space(sweep, space):
    with pytest.raises(StudyError, match=r"hydra\.sweep\.subdir must differ from trial to trial"):
        sweep(*FEW, *space, "hydra.sweep.subdir=same")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hydra.sweep.subdir=${nowhere}", r"hydra\.sweep\.subdir names no folder: .*'nowhere' not found"),
        ("hydra.sweep.dir=out/${hydra.job.num}", r"hydra\.sweep\.dir must be the same for all trials"),
    ],
)
def test_a_directory_that_cannot_be_named_is_refused(sweep, override, words):
    with pytest.raises(StudyError, match=words):
        sweep("hydra.sweeper.n_trials=3", override)


def test_a_sweep_directory_that_cannot_be_made_is_refused(sweep):
    Path("taken").touch()
    with pytest.raises(StudyError, match=r"hydra\.sweep\.dir must be a folder that can be written to: FileExistsError"):
        sweep("hydra.sweep.dir=taken")


@pytest.mark.integration
def test_workers_at_once_never_share_a_directory():
    run("hydra/launcher=joblib", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=8", "hydra.sweep.dir=out",
        "~hydra.sweeper.params.x", "y=choice(1,2)", "hydra.sweep.subdir=${hydra:job.override_dirname}")  # fmt: skip
    assert len(set(directories())) == 8
