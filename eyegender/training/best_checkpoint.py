"""Keeps the best checkpoint, also over an interruption that moves the run to another folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, which forgets the best one so far when a resumed run writes to a folder of its own."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        before = Path(state_dict["best_model_path"] or "")
        if state_dict["best_model_score"] is None or not before.is_file():
            return  # nothing was best yet, or it was deleted: the next epoch will be
        assert self.dirpath is not None
        here = Path(self.dirpath) / before.name
        if here.resolve() != before.resolve():
            here.parent.mkdir(parents=True, exist_ok=True)
            aside = here.with_name(f".{here.name}.{os.getpid()}")
            shutil.copyfile(before, aside)
            aside.replace(here)
        score = state_dict["best_model_score"]
        self.best_model_score, self.best_model_path = score, str(here)
        self.best_k_models, self.kth_best_model_path, self.kth_value = {str(here): score}, str(here), score
