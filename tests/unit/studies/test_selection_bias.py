"""What the best of many trials owes to luck: the correction is unbiased, and only computed where it can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from benchmarks.selection_bias import CASES, simulate
from eyegender.studies.report import write_report
from eyegender.studies.selection_bias import by_person, corrected_best, selection_bias
from eyegender.tracking.predictions import Predictions
from hydra_plugins.optuna_study import study_status

if TYPE_CHECKING:
    from eyegender.studies.selection_bias import SelectionBias

N = 600
PERSONS = tuple(f"person {i // 3}" for i in range(N))


@pytest.mark.parametrize("case", CASES)
def test_the_corrected_value_is_unbiased_and_its_interval_covers_the_truth(case: str) -> None:
    raw, bias, covered, half = np.array([simulate(case, seed) for seed in range(30)]).mean(axis=0)
    assert abs(bias) < 0.005  # four standard errors of the mean of 30 studies
    assert covered >= 0.8
    assert 0.008 < half < 0.02
    if case != CASES[1]:
        assert raw > 0.005  # what is corrected


def test_of_trials_that_agree_the_value_is_their_accuracy() -> None:
    correct = np.tile(np.arange(N) % 10 != 0, (5, 1))
    found = corrected_best(*by_person(correct, PERSONS))
    assert found.value == pytest.approx(0.9)
    assert found.low < 0.9 < found.high


def test_images_of_one_person_are_never_on_both_sides() -> None:
    # Each trial is right on all images of one person alone: chosen on other persons, it is worth nothing.
    correct = np.array([[person == f"person {trial}" for person in PERSONS] for trial in range(200)])
    assert corrected_best(*by_person(correct, PERSONS)).value == pytest.approx(0, abs=0.002)
    counts, sizes = by_person(correct, None)
    assert (counts.shape, sizes.sum()) == ((N, 200), N)


def test_a_single_person_gives_no_interval() -> None:
    found = corrected_best(*by_person(np.ones((3, 4), bool), ["a"] * 4))
    assert found.value == 1
    assert np.isnan(found.low)


class Study:
    """A study whose trials left their predictions in folders."""

    def __init__(self, folder: Path, direction: str = "maximize") -> None:
        self.folder, self.url = folder, f"sqlite:///{folder}/study.db"
        self.study = optuna.create_study(storage=self.url, study_name="s", direction=direction)
        self.rng = np.random.default_rng(0)
        self.labels = np.arange(N) % 2

    def add(self, accuracy: float, *, enqueued: bool = False, seed: int | None = None, shift: float = 0.0) -> None:
        number = len(self.study.trials)
        rng = self.rng if seed is None else np.random.default_rng(seed)
        wrong = rng.permutation(N)[: round((1 - accuracy) * N)]
        probabilities = np.where(self.labels == 1, 0.9, 0.1)
        probabilities[wrong] = 1 - probabilities[wrong]
        names = tuple(f"{i}.jpg" for i in range(N))
        output = self.folder / str(number)
        output.mkdir()
        table = Predictions(names, names, self.labels, probabilities, PERSONS).to_table()
        (output / "val_predictions.json").write_text(json.dumps(table))
        right = 1 - len(wrong) / N
        attrs = {"fixed_params": {"lr": 0.1}} if enqueued else {}
        self.study.add_trial(
            create_trial(
                params={"lr": 0.1}, distributions={"lr": FloatDistribution(0, 1)}, value=right + shift,
                user_attrs={"output_dir": str(output)}, system_attrs=attrs,
            )
        )  # fmt: skip

    def bias(self) -> SelectionBias | None:
        return selection_bias(self.study, study_status(self.url, "s"), self.folder)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_a_study_says_what_its_best_value_is_worth(study: Study) -> None:
    study.add(0.80, enqueued=True)
    for accuracy in (0.85, 0.95, 0.945, 0.6):
        study.add(accuracy)
    bias = study.bias()
    assert bias is not None
    assert (bias.best.number, bias.n_trials, bias.observed) == (2, 5, pytest.approx(0.95))
    assert bias.corrected.low < bias.corrected.value <= 0.9501
    assert bias.default is not None
    assert bias.gain is not None
    assert bias.default.number == 0
    assert 0.1 < bias.gain.low < bias.gain.value < 0.16
    assert [trial.number for trial in bias.equal] == [3]
    text = " ".join(bias.sentences)
    assert text.startswith(
        "Trial 2 is the best of 5 on the validation set, with 95.0%. Corrected for that choice, its "
    )
    assert "It is better than the enqueued configuration, trial 0: +1" in text
    assert "1 other trial cannot be told from it." in text


def test_the_default_may_be_missing_equal_or_the_best_itself(study: Study) -> None:
    study.add(0.9)
    study.add(0.901)
    bias = study.bias()
    assert bias is not None
    assert "No enqueued configuration is complete" in " ".join(bias.sentences)
    study.add(0.9, enqueued=True)
    bias = study.bias()
    assert bias is not None
    assert "There is no evidence that it is better than the enqueued configuration, trial 2" in " ".join(bias.sentences)
    study.add(0.97, enqueued=True)
    study.study.add_trial(create_trial(state=TrialState.PRUNED))
    assert study.bias() is not None


def test_a_tie_is_called_one(study: Study) -> None:
    for _ in range(3):
        study.add(0.9)
    bias = study.bias()
    assert bias is not None
    assert bias.sentences[0].startswith("Trial 0 ties for the best of 3 on the validation set, with 90.0%. ")


def test_a_grid_enqueues_every_trial_and_has_no_default(study: Study) -> None:
    for accuracy in (0.9, 0.92, 0.94):
        study.add(accuracy, enqueued=True)
    bias = study.bias()
    assert bias is not None
    assert bias.default is None


def test_without_comparable_predictions_nothing_is_claimed(study: Study, tmp_path: Path) -> None:
    assert study.bias() is None
    study.add(0.9)
    assert study.bias() is None
    study.add(0.92)
    assert study.bias() is not None
    (tmp_path / "1/val_predictions.json").write_text('{"columns": [')
    assert study.bias() is None
    study.add(0.91)
    assert study.bias() is not None
    study.add(0.91, shift=-0.3)  # another objective than the accuracy
    assert study.bias() is None


def test_a_study_that_minimizes_has_no_accuracy(tmp_path: Path) -> None:
    study = Study(tmp_path, "minimize")
    study.add(0.9)
    study.add(0.92)
    assert study.bias() is None


def test_the_report_says_it(study: Study, tmp_path: Path) -> None:
    study.add(0.9, enqueued=True)
    study.add(0.95)
    bias = study.bias()
    page = write_report(study.study, study_status(study.url, "s"), tmp_path / "out", bias=bias).read_text()
    assert "Trial 1 is the best of 2 on the validation set, with 95.0%." in page
    stored = json.loads((tmp_path / "out/report/best.json").read_text())["selection_bias"]
    assert (stored["trial"], stored["of"], stored["default"]) == (1, 2, 0)
