"""Predictions, comparison and card of more than two classes."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from eyegender.comparison.comparison import compare
from eyegender.comparison.figures import comparison_figures
from eyegender.comparison.page import render_html, render_markdown
from eyegender.registry.model_card import describe, failures, model_card
from eyegender.registry.promotion import compare_on_shared_images
from eyegender.tracking.predictions import Predictions
from tests.unit.comparison.example_runs import run, table

CLASSES = ("ant", "bee", "cow")
TWO = (("weak", 1.0), ("strong", 4.0))


def many(seed: int, skill: float, n: int = 90) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    scores = np.exp(rng.normal(skill * np.eye(3)[labels], 1.0))
    names = tuple(f"{CLASSES[label]}/{i}.png" for i, label in enumerate(labels))
    return Predictions(
        names=names, keys=names, labels=labels, probabilities=scores / scores.sum(1, keepdims=True), classes=CLASSES
    )


def test_the_table_of_predictions_keeps_classes_and_probabilities() -> None:
    first = many(0, 1.0)
    stored = json.loads(json.dumps(first.to_table()))
    assert [name for name in stored["columns"] if name.startswith("prob")] == [
        "probability: ant", "probability: bee", "probability: cow"
    ]  # fmt: skip
    columns = dict(zip(stored["columns"], zip(*stored["data"], strict=True), strict=True))
    again = Predictions.from_columns(columns)
    assert (again.classes, again.names, dict(again.attributes)) == (CLASSES, first.names, {})
    np.testing.assert_allclose(again.probabilities, first.probabilities, rtol=1e-8)
    assert again.fingerprint == first.sorted().fingerprint
    assert np.array_equal(again.confusion_matrix.sum(axis=1), [30, 30, 30])
    assert again.confusion_matrix.trace() == again.correct.sum()


def test_an_image_of_another_class_is_another_image() -> None:
    first = many(0, 1.0)
    other = replace(first, classes=("ant", "bee", "dog"))
    test = compare_on_shared_images(first, other)
    assert test is not None
    assert test.n == 60
    binary = replace(table(0, 1.0, n=90), keys=first.keys)
    assert compare_on_shared_images(first, binary) is None
    assert first.fingerprint != other.fingerprint


def test_a_comparison_has_a_table_of_classes_and_no_paper() -> None:
    comparison = compare([run("weak", many(0, 1.0)), run("strong", many(1, 4.0))], classes=CLASSES, n_resamples=100)
    assert [run.record.name for run in comparison.runs] == ["strong", "weak"]
    assert comparison.pairs[0].significant
    page = render_markdown(comparison, {})
    assert "## Classes of group A" in page
    assert "| bee | 30 |" in page
    assert "paper" not in page
    assert "means over the classes" in page
    assert not re.search(r"\b(fe)?male|\beyes?\b", page)
    assert "<td" in render_html(comparison, {})
    figures = comparison_figures(comparison, lambda names: np.zeros((len(names), 1, 8, 8), np.uint8))
    assert {"roc", "reliability", "confusion_matrices", "disagreements"} <= figures.keys()


def test_two_and_three_classes_on_one_page_keep_their_names() -> None:
    comparison = compare(
        [run("three", many(0, 2.0)), run("two", table(0, 1.0), tags={"data.source": "celeba"})], n_resamples=100
    )
    assert {run.record.name: run.classes for run in comparison.runs} == {"three": CLASSES, "two": ("female", "male")}
    assert comparison.classes == ("female", "male")
    page = render_markdown(comparison, comparison_figures(comparison))
    assert "The positive class is male" in page
    assert "Inception-V3" in page  # of the paper


@pytest.mark.parametrize("classes", [("cats", "dogs"), CLASSES])
def test_a_card_of_other_pictures_says_nothing_about_eyes(classes: tuple[str, ...]) -> None:
    predictions = many(0, 1.0) if len(classes) == 3 else table(0, 1.0)
    predictions = replace(predictions, attributes={})
    record = run("one", predictions, params={f"count.train.{name}": "30" for name in classes})
    card = model_card(record, name="pets", version="1", classes=classes)
    assert not re.search(r"\b(fe)?male|\beyes?\b|gender\b(?<!eyegender)|must not be used|make-up", card)
    assert ("## Test metrics by class" in card) == (len(classes) == 3)
    assert ("train 90" in card) == (len(classes) == 3)


def test_failures_of_many_classes_name_the_confusion() -> None:
    sentences = failures(many(0, 0.5), CLASSES)
    assert len([line for line in sentences if ", most often as *" in line]) == 3
    assert describe(CLASSES) == "Predicts which of 3 classes an image belongs to: *ant*, *bee* or *cow*."
    assert describe(("female", "male")).startswith("Predicts the class of an image of one eye: *female* (label 0)")


@pytest.mark.parametrize(
    ("per_group", "said", "level"),
    [(2, "on 90 test images of 45 image groups.", "by image group"), (1, "on 90 test images.", "by image")],
)
def test_groups_of_other_images_are_not_called_persons(per_group: int, said: str, level: str) -> None:
    groups = tuple(str(i // per_group) for i in range(90))
    runs = [run(name, replace(many(seed, skill), persons=groups)) for seed, (name, skill) in enumerate(TWO)]
    comparison = compare(runs, classes=CLASSES, n_resamples=100)
    page = render_markdown(comparison, {})
    assert said in comparison.headlines[0]
    assert f"({level})" in page
    card = model_card(runs[0], name="zoo", version="1", classes=CLASSES, comparison=())
    assert ("45 image groups in test" in card) == (per_group == 2)
    assert "person" not in page + card


def test_eyes_are_of_persons() -> None:
    runs = [run(name, table(seed, skill)) for seed, (name, skill) in enumerate(TWO)]
    page = render_markdown(compare(runs, n_resamples=100), {})
    assert "on 120 test images of 60 persons." in page
    assert "(by person)" in page
    assert "image group" not in page
