"""A pickle that leaves a file behind when it is loaded, in every form in which one may lie about."""

from __future__ import annotations

import io
import pickle
import zipfile
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
