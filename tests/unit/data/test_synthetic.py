from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.data.synthetic import SyntheticReader
from eyegender.data.synthetic import traits as eye_traits
from eyegender.data.synthetic.drawing import draw_eye


def pixels(reader: SyntheticReader, index: int) -> np.ndarray:
    return np.asarray(reader.read().open(index))


def test_each_person_has_two_eyes_in_the_order_of_names() -> None:
    samples = SyntheticReader(n=10).read()
    assert samples.source == "synthetic"
    assert samples.names == tuple(sorted(samples.names))
    assert samples.names[:3] == ("000000/left", "000000/right", "000001/left")
    assert samples.persons is not None
    assert samples.persons[0] == samples.persons[1] != samples.persons[2]
    assert samples.labels.dtype == np.uint8
    assert samples.labels.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]
    assert len(set(samples.digests)) == 10
    assert all(values.shape == (10,) for values in samples.attributes.values())


def test_an_image_has_the_given_size_and_contrast() -> None:
    image = SyntheticReader(n=4, size=48).read().open(2)
    assert (image.mode, image.size) == ("RGB", (48, 48))
    assert np.asarray(image).std() > 15


def test_an_image_depends_on_seed_and_index_only() -> None:
    expected = pixels(SyntheticReader(n=4, size=32), 3)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state must not matter
    few, many = SyntheticReader(n=4, size=32), SyntheticReader(n=40, size=32)
    many.read().open(7)
    assert np.array_equal(pixels(many, 3), expected)
    assert few.read().digests == many.read().digests[:4]
    assert not np.array_equal(pixels(SyntheticReader(n=4, size=32, seed=1), 3), expected)


def test_several_threads_generate_the_same_images_as_one() -> None:
    reader = SyntheticReader(n=16, size=32)
    alone = [np.asarray(reader.draw(index)) for index in range(16)]
    with ThreadPoolExecutor(4) as pool:
        together = [np.asarray(image) for image in pool.map(reader.draw, range(16))]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("change", [{"size": 64}, {"seed": 1}, {"separation": 1.0}])
def test_digests_depend_on_every_parameter_that_changes_an_image(change: dict[str, float]) -> None:
    before = SyntheticReader(n=4).read().digests
    after = SyntheticReader(n=4, **change).read().digests  # type: ignore[arg-type]
    assert not set(before) & set(after)


def test_left_and_right_eye_are_mirrored() -> None:
    """With the same pose and frontal light they are, except for the lamp in the pupil and the noise."""
    who, how = eye_traits.person(0, 0), eye_traits.shot(0, 0)
    how = replace(how, rotation=0.0, shift=(0.0, 0.0), light=(0.0, 0.0), gaze=(0.0, 0.0), grain=0.0)
    left = np.asarray(draw_eye(who, replace(how, left=True), 64), dtype=float)
    right = np.asarray(draw_eye(who, replace(how, left=False), 64), dtype=float)
    assert np.abs(left - right[:, ::-1]).mean() < 0.5 * np.abs(left - right).mean()


def test_the_latent_score_has_the_documented_accuracy() -> None:
    people = [eye_traits.person(0, number) for number in range(4000)]
    right = np.mean([(who.latent > 0) == bool(who.label) for who in people])
    assert eye_traits.bayes_accuracy() == pytest.approx(0.9452, abs=1e-4)
    assert right == pytest.approx(eye_traits.bayes_accuracy(), abs=0.015)


def test_all_cues_together_are_almost_as_accurate_and_no_single_cue_is() -> None:
    names = ["brow_thickness", "brow_height", "brow_arch", "lash_length", "opening", "liner", "shadow", "roughness"]
    people = [eye_traits.person(1, number) for number in range(4000)]
    labels = np.array([who.label for who in people])
    cues = np.array([[getattr(who, name) for name in names] for who in people])
    cues = (cues - cues.mean(0)) / cues.std(0) * np.sign(cues[labels == 1].mean(0) - cues[labels == 0].mean(0))
    assert 0.91 < ((cues.sum(1) > 0) == labels).mean() < 0.95
    for cue in cues.T:
        assert 0.75 < ((cue > 0) == labels).mean() < 0.90


def test_without_separation_no_cue_is_informative() -> None:
    people = [eye_traits.person(0, number, separation=0.0) for number in range(2000)]
    brows = np.array([[who.brow_thickness for who in people if who.label == label] for label in (0, 1)])
    assert abs(brows[0].mean() - brows[1].mean()) < 0.005


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 3}, "4 or more.*got 3.*set data.n"),
        ({"size": 8}, r"16\.\.1024.*got 8.*set data.reader.size"),
        ({"separation": 9.0}, r"0\.\.4, got 9.0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SyntheticReader(**arguments)  # type: ignore[arg-type]


def test_larger_images_show_the_same_eye() -> None:
    small = Image.fromarray(pixels(SyntheticReader(n=4, size=48), 1))
    large = Image.fromarray(pixels(SyntheticReader(n=4, size=192), 1)).resize((48, 48), Image.Resampling.BOX)
    assert np.abs(np.asarray(small, dtype=float) - np.asarray(large, dtype=float)).mean() < 12
