from __future__ import annotations

import pytest

from eyegender.tracking.secrets import redact, redact_config, redact_override


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:canary@host:5432/db", "postgresql://u:***@host:5432/db"),
        ("postgresql+psycopg2://u:can/ary@host/db", "postgresql+psycopg2://u:***@host/db"),
        ("could not connect to http://:canary@h, retrying", "could not connect to http://:***@h, retrying"),
        ("https://h/x?token=canary&y=1", "https://h/x?token=***&y=1"),
        ("sqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("http://127.0.0.1:5000/#/experiments/1", "http://127.0.0.1:5000/#/experiments/1"),
    ],
)
def test_urls(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_configs() -> None:
    config = {"db": {"password": "canary", "api_key": "canary", "url": "a://b:canary@c"}, "cls_token": "kept", "n": 1}
    assert "canary" not in str(redact_config(config))
    assert redact_config(config)["cls_token"] == "kept"
    assert redact_config(config)["n"] == 1


def test_overrides() -> None:
    assert redact_override("+x.password=canary") == "+x.password=***"
    assert redact_override("tracking.uri=http://u:canary@h") == "tracking.uri=http://u:***@h"
    assert redact_override("model.lr=1e-3") == "model.lr=1e-3"
