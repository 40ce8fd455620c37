"""Studies side by side: which may be compared, how seeds are grouped, and whether their winners differ."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eyegender.compare import compare_from_config
from eyegender.comparison.significance import mcnemar
from eyegender.core.errors import UserError
from eyegender.studies.compare_studies import StudiesResult
from eyegender.studies.reports.side_by_side import (
    StudyCurve,
    band,
    check_comparable,
    seed_groups,
    stored_predictions,
    study_curve,
    winner_tests,
)
from eyegender.tracking.predictions import Predictions
from hydra_plugins.optuna_study import StudyError
from tests.composing import compose_config
from tests.studies import Trials
from tests.unit.studies.test_study_page import HOSTILE, Parsed

N = 400
DEFINITION: dict[str, Any] = {
    "space": {"model.lr": {"else": "interval(1e-4, 1e-2)"}}, "fixed": ["data=folder"], "custom_search_space": None,
    "common": {"data.size": "96"}, "methods": {"sampler": {"_target_": "tpe"}, "pruner": {}, "scheduler": {}},
}  # fmt: skip


def table(right: int, seed: int = 0, prefix: str = "") -> Predictions:
    labels, rng = np.arange(N) % 2, np.random.default_rng(seed)
    probabilities = np.where(labels == 1, 0.9, 0.1)
    wrong = rng.permutation(N)[: N - right]
    probabilities[wrong] = 1 - probabilities[wrong]
    names = tuple(f"{prefix}{i}.png" for i in range(N))
    return Predictions(names, names, labels, probabilities)


def curve(folder: Path, name: str, values: Sequence[float], **options: Any) -> StudyCurve:
    """A study of complete trials of 40 seconds each."""
    own = folder / name
    own.mkdir()
    trials = Trials(own, options.pop("direction", "maximize"), name="study")
    for value in values:
        trials.add(values=[value])
    predictions = options.pop("predictions", {})
    status = replace(trials.status, name=name, **options)
    return study_curve(trials.study, status, lambda _: predictions)


def fixed(*lines: str, **changes: Any) -> dict[str, Any]:
    return DEFINITION | {"fixed": [*DEFINITION["fixed"], *lines]} | changes


def test_the_best_value_by_trials_and_by_seconds(tmp_path: Path) -> None:
    found = curve(tmp_path, "a", [0.5, 0.4, 0.7, 0.6])
    assert (found.trials, found.seconds, found.values) == ([1, 3], [40, 120], [0.5, 0.7])
    assert found.total == (4, 160)
    assert [found.seconds_to(value) for value in (0.5, 0.6, 0.8)] == [40, 120, None]
    lowest = curve(tmp_path, "b", [0.5, 0.4, 0.7], direction="minimize")
    assert (lowest.values, lowest.seconds_to(0.45)) == ([0.5, 0.4], 80)


def test_failed_trials_take_seconds_too(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.add("failed")
    trials.add(values=[0.9])
    found = study_curve(trials.study, trials.status, lambda _: {})
    assert (found.trials, found.seconds) == ([2], [52])


def test_studies_with_other_objectives_are_refused(tmp_path: Path) -> None:
    a, b = curve(tmp_path, "a", [0.5]).status, curve(tmp_path, "b", [0.5], direction="minimize").status
    check_comparable([a, a], ["val/accuracy", "value"])
    with pytest.raises(
        UserError, match=r"same objective, got maximize val/accuracy \('a'\) and minimize val/loss \('b'"
    ):
        check_comparable([a, b], ["val/accuracy", "val/loss"])
    with pytest.raises(UserError, match=r"got maximize val/auroc \('a'\) and maximize val/accuracy \('c'\)"):
        check_comparable([a, replace(a, name="c")], ["val/auroc", "val/accuracy"])
    with pytest.raises(UserError, match="one objective, got 'd' with 2"):
        check_comparable([a, replace(a, name="d", directions=("maximize", "minimize"))], ["value", "value"])


def test_studies_that_differ_in_their_seed_are_one_group(tmp_path: Path) -> None:
    definitions = {
        "tpe_seed0": fixed("seed=0"), "tpe_seed1": fixed("seed=1", "+tracking.experiment=x"),
        "gp": fixed("seed=0", methods=DEFINITION["methods"] | {"sampler": {"_target_": "gp"}}),
        "large": fixed("seed=0", common={"data.size": "224"}), "fixed": fixed("seed=0", "model.dropout=0.5"),
        "old": {"space": {}}, "older": {},
    }  # fmt: skip
    curves = [curve(tmp_path, name, [0.5], definition=known) for name, known in definitions.items()]
    groups = {group.name: [one.name for one in group.members] for group in seed_groups(curves)}
    assert groups == {
        "tpe (2 seeds)": ["tpe_seed0", "tpe_seed1"],
        **{name: [name] for name in ("gp", "large", "fixed", "old", "older")},
    }


def test_a_band_reaches_from_the_worst_to_the_best_seed(tmp_path: Path) -> None:
    members = [curve(tmp_path, "a", [0.5, 0.7, 0.6]), curve(tmp_path, "b", [0.4, 0.6, 0.6, 0.9])]
    x, low, mean, high = (values.tolist() for values in band(members, "trials"))
    assert x == [1, 2, 3]  # as far as the shorter one goes
    assert low == [0.4, 0.6, 0.6]
    assert high == [0.5, 0.7, 0.7]
    assert mean == pytest.approx([0.45, 0.65, 0.65])
    assert band(members, "seconds")[0].tolist() == [40, 80, 120]


def groups_of(tmp_path: Path, *predictions: dict[str, Predictions]) -> Any:
    return seed_groups(
        [curve(tmp_path, name, [0.5], predictions=own) for name, own in zip("abcdef", predictions, strict=False)]
    )


def test_winners_are_tested_on_test_images_where_both_have_them(tmp_path: Path) -> None:
    good, bad = table(380, 1), table(300, 2)
    groups = groups_of(tmp_path, {"test": good, "validation": bad}, {"test": bad, "validation": good})
    [test], impossible = winner_tests(groups)
    assert (test.on, impossible) == ("test", [])
    assert test.result == mcnemar(good.correct, bad.correct)
    assert test.p_corrected == test.result.p_value < 0.001  # one pair needs no correction
    assert test.difference.value == pytest.approx(0.2)
    assert test.difference.low > 0.1
    assert test.sentence.startswith("The winner of a is more accurate than the winner of b by 20.0 points")


def test_winners_are_tested_on_validation_images_otherwise(tmp_path: Path) -> None:
    good, bad = table(380, 1, "val"), table(300, 2, "val")
    groups = groups_of(tmp_path, {"validation": good, "test": table(380)}, {"validation": bad})
    [test], _ = winner_tests(groups)
    assert test.on == "validation"
    assert test.result == mcnemar(good.correct, bad.correct)


def test_p_values_are_corrected_for_all_pairs(tmp_path: Path) -> None:
    tables = [table(350, 1), table(340, 2), table(330, 3)]
    tests, _ = winner_tests(groups_of(tmp_path, *({"test": each} for each in tables)))
    assert len(tests) == 3
    assert all(test.p_corrected >= test.result.p_value for test in tests)
    assert [test.p_corrected for test in tests] == sorted(test.p_corrected for test in tests)


def test_pairs_that_cannot_be_tested_are_named(tmp_path: Path) -> None:
    tests, impossible = winner_tests(groups_of(tmp_path, {"test": table(300)}, {"test": table(300, 0, "other")}, {}))
    assert tests == []
    assert impossible == [
        "The winners of a and b cannot be tested: they predicted different images.",
        "The winners of a and c cannot be tested: no predictions of trial 0 of c are found.",
        "The winners of b and c cannot be tested: no predictions of trial 0 of c are found.",
    ]


def test_two_seeds_of_one_study_are_no_pair(tmp_path: Path) -> None:
    known = fixed("seed=0")
    curves = [curve(tmp_path, f"s{i}", [0.5], definition=known, predictions={"test": table(300, i)}) for i in range(2)]
    assert winner_tests(seed_groups(curves)) == ([], [])


def test_damaged_predictions_are_none(tmp_path: Path) -> None:
    (tmp_path / "test_predictions.json").write_text("{")
    (tmp_path / "val_predictions.json").write_text(json.dumps(table(300).to_table()))
    assert list(stored_predictions(tmp_path)) == ["validation"]


class Stored:
    """Studies in one storage; the trials of each leave their validation predictions in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, name: str, values: Sequence[float], direction: str = "maximize", metric: str = "val/accuracy"
    ) -> None:
        trials = Trials(self.folder, direction, name=name, metrics=[metric])
        trials.clock += datetime.timedelta(seconds=1)
        for i, value in enumerate(values):
            output = self.folder / name.replace("/", "_") / str(i)
            output.mkdir(parents=True)
            (output / "val_predictions.json").write_text(json.dumps(table(round(value * N), i).to_table()))
            trials.add(values=[value], attrs={"output_dir": str(output)})

    def compare(self, *names: str, **options: str) -> StudiesResult:
        given = {
            "storage": f"sqlite:///{self.folder}/study.db", "output": str(self.folder / "page"),
            "tracking.root": str(self.folder / "away"), **options,
        }  # fmt: skip
        cfg = compose_config(*(f"{key}={value}" for key, value in given.items()), name="compare")
        cfg.study = list(names)
        result = compare_from_config(cfg)
        assert isinstance(result, StudiesResult)
        return result


def test_the_page_of_two_studies_without_mlflow(tmp_path: Path) -> None:
    stored = Stored(tmp_path)
    stored.add("tpe", [0.7, 0.9])
    stored.add("random", [0.6, 0.65, 0.7])
    result = stored.compare("tpe", "random")
    assert result.run_id is None  # its store is away
    page = Parsed(result.folder / "comparison.html")
    assert "tpe found the best val/accuracy, 0.9; the best that random found is 0.7." in page.text
    assert "The winner of tpe is more accurate than the winner of random by 20.0 points" in page.text
    assert "(validation)" in page.text
    assert "The winners were chosen on these same images" in page.text
    assert set(page.charts) == {"best_against_trials", "best_against_seconds"}
    lines = {trace["name"]: trace for trace in page.charts["best_against_seconds"]["data"]}
    assert lines["random"]["x"] == [40, 80, 120, 120]
    assert lines["random"]["y"] == [0.6, 0.65, 0.7, 0.7]
    markdown = (result.folder / "comparison.md").read_text()
    assert "| tpe | 2 (0 pruned, 0 failed) | 0.9000 |" in markdown
    assert "![Best val/accuracy against trials](figures/best_against_trials.png)" in markdown
    assert (result.folder / "figures" / "best_against_trials.png").is_file()


def test_names_of_studies_are_text(tmp_path: Path) -> None:
    stored = Stored(tmp_path)
    stored.add(HOSTILE, [0.7], metric=HOSTILE)
    stored.add("b", [0.6], metric=HOSTILE)
    result = stored.compare(HOSTILE, "b")
    page = Parsed(result.folder / "comparison.html")
    assert "<img src=x" not in page.source
    assert page.tags.count("script") == 3
    assert "<script" not in (result.folder / "comparison.md").read_text()


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path: Path) -> None:
    stored = Stored(tmp_path)
    stored.add("a", [0.7])
    stored.add("loss", [0.6], "minimize", "val/loss")
    stored.add("empty", [])
    with pytest.raises(UserError, match="same objective, got maximize val/accuracy"):
        stored.compare("a", "loss")
    with pytest.raises(UserError, match="two studies with complete trials, got 1 of 2"):
        stored.compare("a", "empty")
    with pytest.raises(UserError, match="different studies, got 'a' twice"):
        stored.compare("a", "a")
    with pytest.raises(StudyError, match="no study 'b'"):
        stored.compare("a", "b")
    with pytest.raises(UserError, match="runs and study cannot both be given"):
        stored.compare("a", "loss", runs="[r1]")
    with pytest.raises(UserError, match="study must be the name of a study, or a list of names"):
        stored.compare("a", "")
    assert not (tmp_path / "page").exists()


def test_a_study_without_a_complete_trial_is_left_out(tmp_path: Path) -> None:
    stored = Stored(tmp_path)
    for name, values in (("a", [0.7]), ("b", [0.8]), ("empty", [])):
        stored.add(name, values)
    assert stored.compare("a", "b", "empty").page.warnings == [
        "Study empty is left out: none of its trials is complete."
    ]
