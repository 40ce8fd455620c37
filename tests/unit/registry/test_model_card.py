import re

import numpy as np
import pytest

from eyegender.registry.model_card import failures, model_card
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


def test_a_card_says_how_the_model_was_chosen_and_how_often_its_test_images_were_used() -> None:
    alone = model_card(run("one", table(0, 1.5)), name="eyes", version="1")
    assert "How it was chosen" not in alone
    assert "No other model of this name was chosen by these test images." in alone
    chosen = "Trial 3 of study finetune. It is better than the enqueued configuration."
    card = model_card(run("one", table(0, 1.5)), name="eyes", version="5", chosen=chosen, uses=5)
    assert f"## How it was chosen\n\n{chosen}\n" in card
    assert "one of 5 models of this name that were chosen or refused by these test images" in card


def test_failures_name_the_attribute_that_hurts() -> None:
    good = table(0, 3.0)
    wrong = np.where(good.attributes["Eyeglasses"] > 0, 1.0 - good.labels, good.labels).astype(float)
    sentences = failures(type(good)(**{**good.__dict__, "probabilities": wrong}))
    assert any("With the attribute Eyeglasses" in line and "points lower than without" in line for line in sentences)
    assert "predictions with a confidence of 90% or more" in sentences[2]


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
