"""The error about a key that does not exist suggests the one that was meant: of the run, the sweeper or Hydra."""

from __future__ import annotations

import pytest

from eyegender.core.config_files import config_files, config_folder
from eyegender.core.config_keys import suggest_key
from eyegender.core.errors import UserError
from eyegender.core.schema import parse
from tests.composing import compose_config


def suggestion(key: str) -> str:
    return suggest_key(key, config_files("train", None), config_folder("conf"))


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
        # Under the name that it has in other tools.
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
    text = suggestion(typed)
    assert text.startswith("; did you mean ")
    assert meant in text.removeprefix("; did you mean ").rstrip("?").split(" or ")


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("hydra.sweeper.n_trials", "; it is a key of hydra/sweeper=optuna_study"),
        ("data.n", "; it is a key of data=synthetic"),
        ("early_stopping", "; there is no such key, see --help"),
        ("treshold", "; there is no such key, see --help"),
    ],
)
def test_no_key_is_suggested_for_one_that_is_not_misspelt(typed: str, text: str) -> None:
    assert suggestion(typed) == text


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("+sweep=finetune", "sweep is no key of this command, got 'finetune'; did you mean sweeps?"),
        ("+model.learning=3", "model.learning is no key of this command, got 3; remove it"),
        ("+trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
    ],
)
def test_a_key_that_was_added_with_a_plus_gets_a_suggestion_too(added: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(compose_config(added))
    assert message in str(refused.value)
