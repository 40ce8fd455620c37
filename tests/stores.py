"""Empty MLflow stores: their tables are made once, for it takes MLflow seconds of migrations."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

import mlflow


def give_store(folder: Path) -> None:
    """Put an empty store into `folder`, a run's `mlruns`, where there is none."""
    if not (folder / "mlflow.db").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mlflow.db").write_bytes(_empty())


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
        with closing(sqlite3.connect(path)) as connection:
            return connection.serialize()
