from dataclasses import replace

from eyegender.comparison.significance import mcnemar
from eyegender.registry.promotion import compare_on_shared_images
from tests.unit.comparison.example_runs import table


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
