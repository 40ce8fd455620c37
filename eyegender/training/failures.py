"""What a training that its user can repair ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.tracking.errors import first_line

if TYPE_CHECKING:
    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.finite_check import NotFiniteError


def not_finite(error: NotFiniteError, data: EyesDataModule) -> UserError:
    """At which step, with which rate and on which pictures."""
    names = tuple(data.samples.names[i] for i in error.index)
    return UserError(
        f"{error.what} is not finite at step {error.step} with learning rate {error.lr:.3g}; lower model.lr, "
        f"or look at the pictures of that batch: {', '.join(names[:4])}, …",
        names,
    )


def out_of_memory(error: BaseException, cfg: TrainConfig, data: EyesDataModule, step: int) -> UserError:
    """At which step, and what to lower."""
    trainer, model = cfg.trainer, cfg.model
    lower = f"trainer.batch_size (now {trainer.batch_size}), trainer.eval_batch_size ({trainer.eval_batch_size})"
    halve = "" if trainer.on_oom == "halve" else ", or set trainer.on_oom=halve"
    return UserError(
        f"out of memory at step {step} ({first_line(error)}); lower {lower}, "
        f"data.size ({data.size}) or model.finetune_depth ({model.finetune_depth}){halve}"
    )
