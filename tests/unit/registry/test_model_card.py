import re
from dataclasses import replace

import numpy as np
import pytest

from eyegender.comparison.significance import mcnemar
from eyegender.registry.model_card import failures, model_card
from eyegender.registry.promotion import compare_on_shared_images
from tests.unit.comparison.example_runs import run, table


def test_a_card_names_forbidden_uses() -> None:
    card = model_card(run("one", table(0, 1.5)), name="eyes", version="3", comparison=("It is better.",))
    for text in ("# eyes, version 3", "does not predict a person's gender", "decisions about people",
                 "| accuracy |", "over persons", "It is better.", "models:/eyes/3"):  # fmt: skip
        assert text in card
    assert "synthetic eyes" not in card
    synthetic = model_card(run("one", table(0, 1.5), tags={"synthetic": "true"}), name="eyes", version="1")
    assert "Trained on synthetic eyes" in synthetic
    with pytest.raises(ValueError, match="needs test predictions"):
        model_card(run("one", None), name="eyes", version="1")


def test_failures_name_the_attribute_that_hurts() -> None:
    good = table(0, 3.0)
    wrong = np.where(good.attributes["Eyeglasses"] > 0, 1.0 - good.labels, good.labels).astype(float)
    sentences = failures(type(good)(**{**good.__dict__, "probabilities": wrong}))
    assert any("With the attribute Eyeglasses" in line and "points lower than without" in line for line in sentences)
    assert "predictions with a confidence of 90% or more" in sentences[2]


def test_only_shared_images_are_compared() -> None:
    first, second = table(0, 1.0, n=100), table(1, 1.0, n=100, first=60)
    test = compare_on_shared_images(first, second)
    assert test is not None
    assert test.n == 40
    assert compare_on_shared_images(first, table(1, 1.0, n=20, first=500)) is None


def test_a_promotion_tests_over_persons_if_either_run_knows_them() -> None:
    first, second = table(0, 1.0), table(1, 1.5)
    by_image = compare_on_shared_images(replace(first, persons=None), replace(second, persons=None))
    by_person = compare_on_shared_images(first, second)
    assert by_image is not None
    assert by_image == mcnemar(first.correct, second.correct)
    assert by_person == mcnemar(first.correct, second.correct, first.persons)
    assert (
        by_person
        == compare_on_shared_images(replace(first, persons=None), second)
        == compare_on_shared_images(first, replace(second, persons=None))
    )
    assert by_person.p_value != by_image.p_value


def test_error_rates_are_over_persons_if_they_are_known() -> None:
    one = table(0, 1.0)
    doubled = type(one)(
        names=(*one.names, *(f"other {name}" for name in one.names)),
        keys=(*one.keys, *(f"{key}b" for key in one.keys)),
        labels=np.tile(one.labels, 2),
        probabilities=np.tile(one.probabilities, 2),
        persons=(one.persons or ()) * 2,
    )
    once, twice = (re.findall(r"[\d.]+% \(.*?%\)", "".join(failures(each))) for each in (one, doubled))
    assert len(once) == 3
    assert once == twice


def test_failures_are_listed_by_class_and_unknown_effects_are_named() -> None:
    few = table(0, 3.0, n=40)  # 14 of them with glasses
    sentences = failures(few, ("f", "m"))
    assert sentences[0].startswith("Of 20 images of *f*, ")
    assert sentences[-1].startswith("No attribute is present in 20 test images")
    better = table(0, 3.0)
    right = np.where(better.attributes["Eyeglasses"] > 0, better.labels, 1.0 - better.labels).astype(float)
    assert failures(type(better)(**{**better.__dict__, "probabilities": right}))[-1] == (
        "No known attribute lowers its accuracy."
    )
