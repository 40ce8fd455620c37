"""A key that does not exist is answered with the one that was meant: of the run, of the sweeper, of Hydra."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eyegender.core import extras
from eyegender.core.command import config_files, config_folder
from eyegender.core.errors import UserError
from eyegender.core.extras import advice
from eyegender.core.known_keys import suggestion
from eyegender.core.schema import parse
from tests.composing import compose_config


def of_train(key: str) -> str:
    return suggestion(key, config_files("train", None), config_folder("conf"))


@pytest.fixture(autouse=True)
def _plugins() -> None:
    from hydra.core.plugins import Plugins

    Plugins.instance()  # they register their configs when Hydra first looks for them


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("model.lrr", "model.lr"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("modle", "model"),
        # By the name that other tools give it.
        ("learning_rate", "model.lr"),
        ("model.learning_rate", "model.lr"),
        ("epochs", "trainer.max_epochs"),
        ("batch_size", "trainer.batch_size"),
        ("image_size", "data.size"),
        ("tracking.experiment_name", "tracking.experiment"),
        # Of Hydra, its plugins and the sweeper.
        ("hydra.sweeper.ntrials", "hydra.sweeper.n_trials"),
        ("hydra.swepper.n_trials", "hydra.sweeper.n_trials"),
        ("ntrials", "hydra.sweeper.n_trials"),
        ("hydra.sweeper.sampler.sed", "hydra.sweeper.sampler.seed"),
        ("hydra.sweeper.pruner.nwarmup_steps", "hydra.sweeper.pruner.n_warmup_steps"),
        ("hydra.run.dri", "hydra.run.dir"),
        ("hydra.job.chdr", "hydra.job.chdir"),
        ("hydra/lancher", "hydra/launcher"),
        ("hydra/sweeper/samplr", "hydra/sweeper/sampler"),
    ],
)
def test_the_nearest_key_is_suggested(typed: str, meant: str) -> None:
    said = of_train(typed)
    assert said.startswith("; did you mean ")
    assert meant in said.removeprefix("; did you mean ").rstrip("?").split(" or ")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("hydra.sweeper.n_trials", "; it is a key of hydra/sweeper=optuna_study"),
        ("data.n", "; it is a key of data=synthetic"),
        ("early_stopping", "; there is no such key, see --help"),
        ("treshold", "; there is no such key, see --help"),
    ],
)
def test_what_is_not_misspelt_is_not_guessed_at(typed: str, said: str) -> None:
    assert of_train(typed) == said


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ("+sweep=finetune", "sweep is no key of this command, got 'finetune'; did you mean sweeps?"),
        ("+model.learning=3", "model.learning is no key of this command, got 3; remove it"),
        ("+trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
    ],
)
def test_a_key_that_was_added_is_answered_likewise(added: str, told: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(compose_config(added))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("message", "extra"),
    [
        ("In 'hydra/config': Could not find 'hydra/launcher/joblib'; known: basic", "cluster"),
        ("In 'hydra/config': Could not find 'hydra/launcher/submitit_slurm'; known: basic", "cluster"),
        ("In 'hydra/config': Could not find 'hydra/launcher/ray'; known: basic", "ray"),
        ("the sampler optuna.samplers.CmaEsSampler cannot be built: Tried to import 'cmaes' but failed", "cluster"),
        ("PostgreSQL needs a driver; install psycopg2-binary or psycopg", "cluster"),
        ("No module named 'grpc'", "cluster"),
    ],
)
def test_what_is_not_installed_names_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, message: str, extra: str
) -> None:
    monkeypatch.setattr(extras, "_is_missing", lambda _: True)
    assert advice(message) == f"; pip install 'eyegender[{extra}]'"


def test_other_messages_name_no_extra() -> None:
    assert advice("In 'hydra/config': Could not find 'hydra/launcher/jolib'; known: basic") == ""
    assert advice("the callback x cannot be built: no module ray of light was imported") in {
        "",
        "; pip install 'eyegender[ray]'",
    }
    assert advice("Grad-CAM needs the package grad-cam; pip install 'eyegender[explain]'") == ""


def test_without_extras_the_joblib_launcher_is_told_to_be_installed() -> None:
    code = (
        "import sys\n"
        "from hydra.core.config_store import ConfigStore\n"
        "from hydra.core.plugins import Plugins\n"
        "Plugins.instance()\n"
        "del ConfigStore.instance().repo['hydra']['launcher']['joblib.yaml']\n"  # as in a wheel by itself
        "sys.argv = ['eyegender.train', '-m', '+sweeps=finetune', 'hydra/launcher=joblib']\n"
        "import eyegender.train\n"
        "eyegender.train.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith("; pip install 'eyegender[cluster]'")
    assert len(done.stderr.splitlines()) == 1
