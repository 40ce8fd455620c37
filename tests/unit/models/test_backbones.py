from __future__ import annotations

import pytest

from eyegender.core.errors import UserError
from eyegender.models.backbone import resolve_depth
from eyegender.models.inception_v3 import InceptionV3
from eyegender.models.mobilenet_v2 import MobileNetV2
from tests.unit.models.contracts import BackboneContract


class TestMobileNetV2(BackboneContract):
    cls = MobileNetV2
    stages = 19


class TestInceptionV3(BackboneContract):
    cls = InceptionV3
    stages = 16


@pytest.mark.parametrize(("depth", "stages", "expected"), [(0, 19, 0), ("all", 16, 16), ("7", 16, 7), (16, 16, 16)])
def test_depth(depth: int | str, stages: int, expected: int) -> None:
    assert resolve_depth(depth, stages, "x") == expected


@pytest.mark.parametrize("depth", [-1, 17, "most"])
def test_a_wrong_depth_is_refused_with_the_valid_range(depth: int | str) -> None:
    with pytest.raises(UserError, match=f"must be 0..16 for inception_v3 or 'all', got {depth}"):
        resolve_depth(depth, 16, "inception_v3")
