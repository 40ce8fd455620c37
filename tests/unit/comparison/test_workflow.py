"""The steps of a comparison command."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from eyegender.comparison.workflow import _classes_to_show, _logged_classes

PETS, CELEBA = ["cats", "dogs"], ["female", "male"]


@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        ([PETS, PETS], ("cats", "dogs")),
        ([PETS, None], ("cats", "dogs")),
        ([None], ("female", "male")),
        ([PETS, CELEBA], ("label 0", "label 1")),
    ],
)
def test_runs_with_different_classes_get_label_numbers(
    logged: list[list[str] | None], expected: tuple[str, str]
) -> None:
    def run(position: int) -> Any:
        profile = json.dumps({} if logged[position] is None else {"classes": logged[position]})
        entry = SimpleNamespace(dataset=SimpleNamespace(profile=profile))
        return SimpleNamespace(inputs=SimpleNamespace(dataset_inputs=[entry]))

    store: Any = SimpleNamespace(run=run)
    records: Any = [SimpleNamespace(run_id=position) for position in range(len(logged))]
    assert _classes_to_show(_logged_classes(store, records)) == expected
