"""What a comparison says of runs as a whole."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from eyegender.comparison.workflow import _classes

PETS, CELEBA = ["cats", "dogs"], ["female", "male"]


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ([PETS, PETS], ("cats", "dogs")),
        ([PETS, None], ("cats", "dogs")),
        ([None], ("female", "male")),
        ([PETS, CELEBA], ("label 0", "label 1")),
    ],
)
def test_runs_of_different_classes_are_given_the_names_of_none(
    told: list[list[str] | None], named: tuple[str, str]
) -> None:
    def run(position: int) -> Any:
        profile = json.dumps({} if told[position] is None else {"classes": told[position]})
        entry = SimpleNamespace(dataset=SimpleNamespace(profile=profile))
        return SimpleNamespace(inputs=SimpleNamespace(dataset_inputs=[entry]))

    store: Any = SimpleNamespace(run=run)
    records: Any = [SimpleNamespace(run_id=position) for position in range(len(told))]
    assert _classes(store, records) == named
