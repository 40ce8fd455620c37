from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from eyegender.comparison.comparison import Comparison, compare
from eyegender.comparison.pairs import ALL_PAIRS_UP_TO
from eyegender.comparison.run_record import RunRecord
from eyegender.comparison.significance import PairedRuns, corrected_p_values, mcnemar
from eyegender.core.errors import UserError
from eyegender.tracking.predictions import Predictions
from tests.unit.comparison.example_runs import IMAGES, run, shuffled, table


def compared(*records: RunRecord) -> Comparison:
    return compare(records, n_resamples=200)


def test_the_most_accurate_run_comes_first_and_leads() -> None:
    found = compared(run("weak", table(1, 0.2)), run("strong", table(2, 3.0)))
    assert [run.record.name for run in found.runs] == ["strong", "weak"]
    assert [run.number for run in found.runs] == [1, 2]
    assert [run.leads for run in found.runs] == [True, False]
    (pair,) = found.pairs
    value, low, high = (100 * each for each in pair.difference)
    assert found.headlines == (
        f"strong is better than weak by {value:.1f} points (95% interval {low:.1f} to {high:.1f}, p < 0.001), on 120 "
        "test images of 60 persons.",
    )


def test_the_answer_of_three_runs() -> None:
    found = compared(run("strong", table(2, 4.0)), run("weak", table(1, 0.1)), run("weaker", table(3, -0.1)))
    (answer,) = found.headlines
    assert answer.startswith("#1 strong is better than all others, #2 by ")
    assert answer.endswith("on 120 test images of 60 persons.")
    # Ahead of some only.
    found = compared(run("strong", table(2, 2.0)), run("close", table(4, 1.9)), run("weak", table(1, 0.1)))
    (answer,) = found.headlines
    assert f"{found.runs[0].short_name} has the highest accuracy, " in answer
    assert answer.endswith(", and cannot be told apart from #2. It is better than the other one.")
    equal = compared(*(run(f"r{i}", table(i, 1.0)) for i in range(3)))
    assert equal.headlines[0].startswith("The 3 runs cannot be told apart. #1 r")


def test_the_answer_of_one_run_and_of_seeds() -> None:
    (answer,) = compared(run("a", table(1, 1.0))).headlines
    assert re.fullmatch(
        r"a has an accuracy of \d\d\.\d% \(95% interval [\d.]+ to [\d.]+%\) on 120 test images of 60 persons\.", answer
    )
    seeds = [run(f"s{i}", table(i, 1.0), params={"note": "", "seed": str(i)}) for i in range(3)]
    (answer,) = compared(*seeds).headlines
    assert re.fullmatch(
        r"The 3 runs differ only in their seed: accuracy [\d.]+ ± [\d.]+% on 120 test images of 60 persons\.", answer
    )


def test_numbers_of_validation_images_are_marked_everywhere() -> None:
    records = [run("a", table(1, 1.0)), run("b", table(2, 1.0)), run("none", None)]
    found = compare(records, part="val", left_out=["2 pruned trials are not compared."], n_resamples=200)
    assert "on 120 validation images of 60 persons" in found.headlines[0]
    assert "from the validation images" in found.warnings[0]
    assert found.left_out == (
        "2 pruned trials are not compared.",
        f"none ({records[2].run_id}) stored no validation predictions.",
    )
    said = " ".join((*found.headlines, *found.caveats, *found.left_out))
    assert not re.search(r"\btest (images|accuracy|set)\b", said)


def test_trials_with_other_validation_images_are_another_group() -> None:
    records = [run("a", table(1, 1.0)), run("b", table(2, 1.0)), run("c", table(3, 1.0, first=5 * IMAGES))]
    found = compare(records, part="val", n_resamples=200)
    assert [len(group.numbers) for group in found.groups] == [2, 1]
    assert [line.partition(":")[0] for line in found.headlines] == ["Group A", "Group B"]
    assert any("they were validated on different images" in line for line in found.warnings)


def test_a_perfect_run_has_an_interval() -> None:
    perfect = table(1, 1.0)
    found = compared(run("a", replace(perfect, probabilities=perfect.labels.astype(float))))
    value, low, high = found.runs[0].metrics["accuracy"]
    assert value == high == 1
    assert 0.9 < low < 0.99


def test_many_runs_without_predictions_are_counted() -> None:
    found = compared(run("good", table(1, 1.0)), *(run(f"old{i}", None) for i in range(30)))
    assert len(found.left_out) == 21
    assert found.left_out[-1] == "10 more have no usable test predictions."


@pytest.mark.parametrize(
    ("tags", "params", "expected"),
    [
        ({"data.source": "celeba"}, {}, True),
        ({"data.source": "folder"}, {"count.train.femaleeyes": "9", "count.train.maleeyes": "9"}, True),
        ({"data.source": "folder"}, {"count.train.women": "9", "count.train.men": "9"}, False),
        ({"data.source": "folder"}, {"count.train.cats": "9", "count.train.dogs": "9"}, False),
        ({"data.source": "synthetic"}, {}, False),
    ],
)
def test_the_papers_numbers_are_only_beside_its_own_data(
    tags: dict[str, str], params: dict[str, str], expected: bool
) -> None:
    record = run("a", table(1, 1.0), tags=tags, params=params)
    assert compared(record).paper == expected
    assert not compare([record], part="val", n_resamples=200).paper


def test_order_of_runs_and_images_does_not_matter() -> None:
    one, other = run("one", table(1, 1.0)), run("other", table(2, 1.5))
    there = compared(one, other)
    back = compared(replace(other, predictions=shuffled(table(2, 1.5))), one)
    assert [run.metrics for run in there.runs] == [run.metrics for run in back.runs]
    assert [pair.test for pair in there.pairs] == [pair.test for pair in back.pairs]
    assert len(back.groups) == 1


def test_pairs_contain_mcnemars_test_and_the_difference() -> None:
    one, other = table(1, 1.0), table(2, 1.5)
    (pair,) = compared(run("one", one), run("other", other)).pairs
    assert pair.test == mcnemar(other.correct, one.correct, one.persons)
    assert pair.p_corrected == pair.test.p_value
    assert pair.difference.value == pytest.approx(pair.test.difference)
    assert pair.difference.low < pair.difference.value < pair.difference.high
    assert pair.sentence.startswith("No evidence of a difference between #1 and #2") or "more accurate" in pair.sentence


def test_equal_runs_both_lead_without_evidence_of_a_difference() -> None:
    found = compared(run("one", table(1, 1.0)), run("other", table(1, 1.0)))
    assert [run.leads for run in found.runs] == [True, True]
    assert found.pairs[0].p_corrected == 1.0
    assert found.headlines[0].startswith("one and other cannot be told apart: 0.0 points (95% interval 0.0 to 0.0")


def test_p_values_are_corrected_for_all_pairs() -> None:
    found = compared(run("a", table(1, 0.2)), run("b", table(2, 1.0)), run("c", table(3, 2.5)))
    assert len(found.pairs) == found.n_compared == 3
    assert all(pair.test.p_value <= pair.p_corrected for pair in found.pairs)
    assert any("corrected (Westfall and Young, step-down) for the 3 pairs" in line for line in found.caveats)
    assert any("best of 3 runs on these same images" in line for line in found.caveats)


def test_many_runs_are_shown_against_the_leader_and_corrected_for_all_pairs() -> None:
    count = ALL_PAIRS_UP_TO + 1
    found = compared(*(run(f"r{i:02d}", table(i, 1.0)) for i in range(count)))
    assert len(found.pairs) == ALL_PAIRS_UP_TO
    assert {pair.first.number for pair in found.pairs} == {1}
    assert any("shown against the most accurate one only" in line for line in found.caveats)
    assert found.n_compared == count * (count - 1) // 2
    runs = PairedRuns(
        np.stack([run.predictions.correct for run in found.runs]),
        found.runs[0].predictions.persons,
        list(combinations(range(count), 2)),
    )
    by_pair = dict(zip(runs.pairs, corrected_p_values([runs])[0], strict=True))
    for pair in found.pairs:
        corrected = by_pair[pair.first.number - 1, pair.second.number - 1]
        assert pair.p_corrected == max(corrected, pair.test.p_value)


def test_an_equal_second_eye_changes_no_p_value_of_the_page() -> None:
    def doubled(predictions: Predictions) -> Predictions:
        return Predictions(
            names=(*predictions.names, *(f"other {name}" for name in predictions.names)),
            keys=(*predictions.keys, *(f"{key}b" for key in predictions.keys)),
            labels=np.tile(predictions.labels, 2),
            probabilities=np.tile(predictions.probabilities, 2),
            persons=(predictions.persons or ()) * 2,
        )

    tables = [table(i, skill) for i, skill in enumerate((0.4, 0.7, 1.0))]
    once = compared(*(run(f"r{i}", each) for i, each in enumerate(tables)))
    twice = compared(*(run(f"r{i}", doubled(each)) for i, each in enumerate(tables)))
    assert twice.groups[0].n == 2 * once.groups[0].n
    for before, after in zip(once.pairs, twice.pairs, strict=True):
        assert after.test.p_value == pytest.approx(before.test.p_value)
        assert after.p_corrected == pytest.approx(before.p_corrected)


def test_persons_that_one_run_stored_are_used_for_its_group() -> None:
    unknown = replace(table(2, 1.5), persons=None)
    found = compared(run("one", table(1, 1.0)), run("other", unknown))
    assert found.groups[0].persons == IMAGES // 2
    assert found.pairs[0].test.persons == IMAGES // 2
    both_know = compared(run("one", table(1, 1.0)), run("other", table(2, 1.5)))
    assert [run.metrics for run in found.runs] == [run.metrics for run in both_know.runs]
    assert [pair.test for pair in found.pairs] == [pair.test for pair in both_know.pairs]


def test_runs_with_different_test_images_are_in_different_groups() -> None:
    found = compared(
        run("a", table(1, 1.0)), run("b", table(2, 1.0)), run("c", table(3, 1.0, first=IMAGES // 2)),
        run("d", table(3, 1.0, first=5 * IMAGES)),
    )  # fmt: skip
    assert [(group.letter, len(group.numbers)) for group in found.groups] == [("A", 2), ("B", 1), ("C", 1)]
    assert len(found.pairs) == 1
    assert any("of 120 and 120 test images only 60 are the same" in line for line in found.warnings)
    assert any(
        "group A with numbers of group C: they were tested on different images" in line for line in found.warnings
    )


def test_runs_with_different_splits_are_in_different_groups() -> None:
    random = {"split.fingerprint": "s2", "split.kind": "random"}
    found = compared(run("a", table(1, 1.0)), run("b", table(2, 1.0), tags=random))
    assert len(found.groups) == 2
    (warning,) = found.warnings
    assert "they share their 120 test images but not their training images" in warning
    assert "one is split by person, the other at random" in warning
    assert any("is split at random" in line and "too high" in line for line in found.caveats)


def test_many_groups_get_one_warning() -> None:
    found = compared(*(run(f"r{i}", table(i, 1.0), tags={"split.fingerprint": f"s{i}"}) for i in range(5)))
    assert found.warnings == ("Groups A to E differ in test or training images: compare numbers only within a group.",)


def test_seeds_of_one_config_form_a_group_and_are_not_tested_against_each_other() -> None:
    same = {"note": "", "model.lr": "0.1"}
    seeds = [run(f"s{i}", table(i, 1.0), params=same | {"seed": str(i)}) for i in range(3)]
    found = compared(*seeds, run("other", table(9, 2.0)))
    (pool,) = found.seed_groups
    accuracies = [run.metrics["accuracy"].value for run in found.runs if run.number in pool.numbers]
    assert pool.mean["accuracy"] == pytest.approx(np.mean(accuracies))
    assert pool.spread["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    assert pool.one_test_set
    assert sorted(pool.seeds) == ["0", "1", "2"]
    assert len(found.pairs) == 3


def test_seed_group_knows_whether_its_runs_share_a_test_set() -> None:
    def seed(i: int) -> RunRecord:
        params = {"note": "", "seed": str(i), "data.split.seed": str(i)}
        return run(f"s{i}", table(i, 1.0, first=20 * i), params=params, tags={"split.fingerprint": f"s{i}"})

    (pool,) = compared(seed(0), seed(1)).seed_groups
    assert not pool.one_test_set


def test_seed_groups_depend_on_the_data_and_not_on_its_folder() -> None:
    def seed(i: int, data: str) -> RunRecord:
        params = {"note": "", "seed": str(i), "data.root": f"/somewhere/{i}"}
        return run(f"s{i}", table(i, 1.0), params=params, tags={"data.fingerprint": data})

    assert len(compared(seed(0, "a"), seed(1, "a")).seed_groups) == 1
    assert compared(seed(0, "a"), seed(1, "b")).seed_groups == ()


def test_a_repeated_seed_is_no_seed_group() -> None:
    same = {"note": ""}
    assert compared(run("a", table(1, 1.0), params=same), run("b", table(2, 1.0), params=same)).seed_groups == ()


@pytest.mark.parametrize(
    ("selected_by", "expected"),
    [
        ("val/accuracy", "its validation accuracy is therefore too high; its test accuracy is not"),
        ("test/accuracy", "its test accuracy is therefore too high"),
    ],
)
def test_a_winner_of_many_trials_is_marked(selected_by: str, expected: str) -> None:
    found = compared(run("a", table(1, 1.0), trials=1200, selected_by=selected_by))
    assert f"#1 is the best of 1,200 trials by {selected_by}: {expected}." in found.caveats


def test_runs_without_usable_predictions_are_named_and_left_out() -> None:
    diverged = replace(table(1, 1.0), probabilities=np.full(IMAGES, np.nan))
    found = compared(run("good", table(1, 1.0)), run("old", None), run("nan", diverged))
    assert len(found.runs) == 1
    assert found.left_out[0].startswith("old (old0")
    assert "diverged: 120 of its probabilities are NaN" in found.left_out[1]


def test_nothing_to_compare_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"none of 1 runs can be compared.*run_test=true") as caught:
        compared(run("old", None))
    assert len(caught.value.details) == 1


def test_synthetic_runs_are_named() -> None:
    found = compared(run("a", table(1, 1.0), tags={"synthetic": "true"}), run("b", table(2, 1.0)))
    assert found.synthetic
    assert found.warnings[0].endswith("trained on synthetic eyes: this says nothing about real eyes.")


def test_a_logged_accuracy_that_contradicts_the_table_is_reported() -> None:
    record = replace(run("a", table(1, 1.0)), metrics={"test/accuracy": 0.999})
    assert "logged a test accuracy of 99.90%, but its stored predictions give" in compared(record).warnings[0]


def test_many_contradictions_are_counted() -> None:
    records = [replace(run(f"r{i}", table(i, 1.0)), metrics={"test/accuracy": 0.999}) for i in range(6)]
    warnings = compared(*records).warnings
    assert len(warnings) == 4
    assert warnings[-1] == "The same is true of 3 more."


def test_all_synthetic_runs_are_one_sentence() -> None:
    records = [run(f"r{i}", table(i, 1.0), tags={"synthetic": "true"}) for i in range(2)]
    assert compared(*records).warnings[0].startswith("All runs were trained on synthetic eyes")


def test_unknown_persons_are_reported() -> None:
    found = compared(run("a", replace(table(1, 1.0), persons=None)))
    assert found.groups[0].persons is None
    assert any("The persons of group A are unknown" in line for line in found.caveats)
