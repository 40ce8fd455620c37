"""Labels say what a run is and what differs between the runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from eyegender.comparison.compared import ComparedRun
from eyegender.comparison.labels import run_labels
from tests.unit.comparison.example_runs import run, table

if TYPE_CHECKING:
    from eyegender.comparison.run_record import RunRecord


def of(number: int, name: str, params: dict[str, str], overrides: str = "", **tags: str) -> RunRecord:
    record = run(
        name, None, params={"data.split.seed": "0", "count.train.female": "9", "count.train.male": "9", **params}
    )
    tags = {"overrides": overrides} | {key.replace("_", "."): value for key, value in tags.items()}
    return replace(record, run_id=f"{number:08d}" + 24 * "0", tags=tags)


def labels(*records: RunRecord) -> list[str]:
    return list(run_labels(records).values())


def test_three_runs_that_differ_in_one_nested_value() -> None:
    records = [
        of(
            i, "mobilenet_v2 · subset {female: 400,", {"data.subset.female": "400", "data.subset.male": n},
            f"model=mobilenet_v2 data.subset={{female: 400, male: {n}}} data.size=96",
        )
        for i, n in enumerate(("300", "600", "900"))
    ]  # fmt: skip
    assert labels(*records) == [f"mobilenet_v2 · subset.male {n}" for n in (300, 600, 900)]


def test_a_section_against_a_value() -> None:
    some = {"data.subset.female": "4", "data.subset.male": "3"}
    override = "data.subset={female: 4, male: 3}"
    found = labels(of(1, "mobilenet_v2", {"data.subset": "None"}), of(2, "mobilenet_v2", some, override))
    assert found == ["mobilenet_v2", "mobilenet_v2 · subset.female 4 · subset.male 3"]
    # Without overrides, as runs from Python may be, all that differs is shown.
    found = labels(of(1, "mobilenet_v2", {"data.subset": "None"}), of(2, "mobilenet_v2", some))
    assert found == ["mobilenet_v2 · subset None", "mobilenet_v2 · subset.female 4 · subset.male 3"]


def test_the_last_value_of_a_key_given_twice_is_the_composed_one() -> None:
    twice = [of(i, "mobilenet_v2 · lr 0.1", {"model.lr": f"0.{i}"}, f"model.lr=0.1 model.lr=0.{i}") for i in (2, 3)]
    assert labels(*twice) == ["mobilenet_v2 · lr 0.2", "mobilenet_v2 · lr 0.3"]


def test_values_that_are_equal_after_rounding_are_shown_in_full() -> None:
    rates = ("0.00102341", "0.00102342")
    found = labels(*(of(i, "mobilenet_v2", {"model.lr": rate}, f"model.lr={rate}") for i, rate in enumerate(rates)))
    assert found == [f"mobilenet_v2 · lr {rate}" for rate in rates]


def test_what_follows_from_another_value_is_not_repeated() -> None:
    found = labels(
        *(
            of(
                i,
                "mobilenet_v2",
                {"model.lr": rate, "model.head_lr": rate, "model.clip": f"{10 * i + 1}"},
                f"model.lr={rate}",
            )
            for i, rate in enumerate(("0.1", "0.2"))
        )
    )
    assert found == ["mobilenet_v2 · lr 0.1", "mobilenet_v2 · lr 0.2"]


def test_what_tells_most_runs_apart_comes_first() -> None:
    found = labels(
        *(
            of(i, "mobilenet_v2", {"model.dropout": "0.5" if i == 3 else "0.2", "model.lr": f"0.{i}"},
               f"model.dropout=0.{i % 2} model.lr=0.{i}")
            for i in (1, 2, 3)
        )
    )  # fmt: skip
    assert found[2] == "mobilenet_v2 · lr 0.3 · dropout 0.5"


def test_trials_begin_with_their_number() -> None:
    trials = [
        of(
            i,
            f"trial {i} · depth 3",
            {"model.finetune_depth": str(i)},
            f"model.finetune_depth={i}",
            trial_number=str(i),
        )
        for i in (1, 2)
    ]
    assert labels(*trials) == ["trial 1 · depth 1", "trial 2 · depth 2"]
    other = of(3, "inception_v3 · lr 1", {"model.name": "inception_v3"})
    assert labels(*trials, other)[0] == "trial 1 · mobilenet_v2 · depth 1"


def test_names_that_users_gave_are_labels() -> None:
    assert labels(of(1, "baseline", {}), of(2, "with mixup", {"model.mixup": "0.2"})) == ["baseline", "with mixup"]
    # Unless they are equal.
    found = labels(of(1, "same", {"model.lr": "1"}), of(2, "same", {"model.lr": "2"}))
    assert found == ["same · lr 1", "same · lr 2"]


def test_different_backbones_are_labels() -> None:
    one, other = of(1, "mobilenet_v2", {"seed": "1"}), of(2, "inception_v3", {"model.name": "inception_v3"})
    assert labels(one, other) == ["mobilenet_v2", "inception_v3"]


@pytest.mark.parametrize("count", [2, 3])
def test_runs_that_do_not_differ_end_with_their_id(count: int) -> None:
    found = labels(*(of(i, "mobilenet_v2", {}) for i in range(count)))
    assert found == [f"mobilenet_v2 · {i:08d}" for i in range(count)]


def test_seeds_and_different_images_differ() -> None:
    assert labels(of(1, "mobilenet_v2", {"seed": "1"}), of(2, "mobilenet_v2", {"seed": "2"})) == [
        "mobilenet_v2 · seed 1",
        "mobilenet_v2 · seed 2",
    ]
    cats, dogs = (
        of(i, "mobilenet_v2", {"data.root": f"/somewhere/{name}"}, data_fingerprint=f"{i}" * 64)
        for i, name in enumerate(("cats", "dogs"))
    )
    assert labels(cats, dogs) == ["mobilenet_v2 · data cats", "mobilenet_v2 · data dogs"]
    # Two folders with equal images are equal data.
    moved = of(2, "mobilenet_v2", {"data.root": "/elsewhere/cats", "seed": "2"}, data_fingerprint="0" * 64)
    assert labels(cats, moved) == ["mobilenet_v2 · seed 0", "mobilenet_v2 · seed 2"]


def test_a_class_is_named_by_its_last_part() -> None:
    adamw, sgd = (
        of(i, "mobilenet_v2", {"optimizer._target_": f"torch.optim.{name}"}, f"optimizer={name.lower()}")
        for i, name in enumerate(("AdamW", "SGD"))
    )
    assert labels(adamw, sgd) == ["mobilenet_v2 · optimizer AdamW", "mobilenet_v2 · optimizer SGD"]


def test_one_run_has_its_name() -> None:
    assert labels(of(1, "mobilenet_v2 · lr 1e-3", {})) == ["mobilenet_v2 · lr 1e-3"]


def test_a_legend_keeps_whole_parts_and_stays_unique() -> None:
    long = " · ".join(f"part{i} value{i}" for i in range(9))
    found = [
        ComparedRun(i, run("a", None), table(1, 1.0), "A", {}, leads=False, short_name=f"trial {i} · {long}").label
        for i in (1, 2)
    ]
    assert found == [f"{i} trial {i} · part0 value0 · part1 value1 …" for i in (1, 2)]
    single = ComparedRun(1, run("a", None), table(1, 1.0), "A", {}, leads=False, short_name="x" * 90).label
    assert len(single) <= 50
