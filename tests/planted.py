"""What is planted in tests: a pickle that leaves a file behind when it is loaded, and secrets that must be nowhere."""

from __future__ import annotations

import io
import pickle
import sqlite3
import zipfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np


class Planted:
    """Unpickling it touches a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> object:
        return (Path.touch, (self.canary,))


def forms(canary: Path) -> dict[str, bytes]:
    """The pickle bare, as torch saves it, as numpy saves objects, alone and in an archive."""
    import torch

    torch_file, numpy_file, archive = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": {"x": Planted(canary)}, "x": Planted(canary)}, torch_file)
    np.save(numpy_file, np.array([Planted(canary)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("group", "near_pairs", "alike", "mirrored", "warnings"):
            file.writestr(f"{name}.npy", numpy_file.getvalue())
    return {
        "pickle": pickle.dumps(Planted(canary)),
        "torch": torch_file.getvalue(),
        "npy": numpy_file.getvalue(),
        "npz": archive.getvalue(),
    }


def assert_nowhere(secrets: Iterable[str], *folders: Path) -> None:
    """None of the secrets is in a file, in a name, or in a table of an sqlite database below the folders."""
    texts = list(secrets)
    for path in (path for folder in folders for path in folder.rglob("*")):
        assert not [text for text in texts if text in str(path)], path
        if not path.is_file():
            continue
        content = path.read_bytes()
        assert not [text for text in texts if text.encode() in content], path
        if content.startswith(b"SQLite format 3"):  # whose pages may tear a text apart
            with closing(sqlite3.connect(path)) as connection:
                for line in connection.iterdump():
                    assert not [text for text in texts if text in line], (path, line)
