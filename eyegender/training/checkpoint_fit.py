"""Whether a checkpoint belongs to the network that is to go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from eyegender.core.schema import TrainConfig
    from eyegender.models.classifier import Classifier


def check_fits(checkpoint: dict[str, Any], module: Classifier, cfg: TrainConfig) -> None:
    """Before Lightning loads it.

    Raises:
        UserError: another architecture (names the first layer that does not fit, not all of them) or another depth.
    """
    mine, theirs = module.state_dict(), checkpoint["state_dict"]
    for name in [*mine, *theirs]:
        if name not in theirs or name not in mine or mine[name].shape != theirs[name].shape:
            raise UserError(
                f"checkpoint {cfg.ckpt_path} belongs to another model: layer {name} is {_shape(theirs, name)} there "
                f"and {_shape(mine, name)} in {cfg.model.name} with head {cfg.model.head}; "
                "use the model options of the run that it comes from"
            )
    if not checkpoint.get("optimizer_states"):
        raise UserError(
            f"checkpoint {cfg.ckpt_path} holds weights alone, and no state of an optimizer; give a run's last.ckpt"
        )
    kept = [len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"]]
    wanted = [len(group["params"]) for group in module.parameter_groups()]
    if kept != wanted:
        raise UserError(
            f"checkpoint {cfg.ckpt_path} was trained at another depth ({sum(kept)} trainable tensors, not "
            f"{sum(wanted)}); set model.finetune_depth to that of its run"
        )


def _shape(state: dict[str, Tensor], name: str) -> str:
    return "x".join(map(str, state[name].shape)) if name in state else "missing"
