"""Keeps the best checkpoint, also over an interruption that moves the run to another folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

from eyegender.core.atomic_write import atomic_write
from eyegender.core.errors import UserError
from eyegender.training.checkpoint_io import load_checkpoint

log = logging.getLogger("eyegender")


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, which forgets the best one so far when a resumed run writes to a folder of its own.

    Args:
        resumed: the checkpoint that the run goes on from; its folder holds the best one, wherever it was moved to.
        options: of Lightning's.
    """

    def __init__(self, resumed: Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.resumed = resumed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        score = state_dict["best_model_score"]
        if score is None:
            return  # nothing was best yet
        before = self._found(Path(state_dict["best_model_path"]), score)
        if before is None:
            log.warning(
                "the best epoch so far (%s %.4f) has no best.ckpt any more; the best of the epochs from here on counts",
                self.monitor,
                float(score),
            )
            return
        assert self.dirpath is not None
        here = Path(self.dirpath) / before.name
        if here.resolve() != before.resolve():
            here.parent.mkdir(parents=True, exist_ok=True)
            with before.open("rb") as source, atomic_write(here, "wb") as file:
                shutil.copyfileobj(source, file)
        self.best_model_score, self.best_model_path = score, str(here)
        self.best_k_models, self.kth_best_model_path, self.kth_value = {str(here): score}, str(here), score

    def _found(self, recorded: Path, score: Any) -> Path | None:
        """The checkpoint with this score: of the same name beside the resumed one, or where it was written."""
        beside = [] if self.resumed is None else [self.resumed.with_name(recorded.name)]
        for path in [*beside, recorded]:
            try:
                held = load_checkpoint(path)["callbacks"][self.state_key]["best_model_score"]
            except (UserError, KeyError):
                continue
            if held is not None and bool(held == score):
                return path
        return None
