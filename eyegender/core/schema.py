"""The schema of a training's config, checked before torch is imported or a file is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from eyegender.core.config_keys import nearest_keys, nested_keys, rename_keys
from eyegender.core.errors import UserError
from eyegender.core.objectives import check_mode

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

NO_WEIGHTS = "model.weights: no file {}; give a .pth or .safetensors state dict, imagenet, auto or null"

C = TypeVar("C", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Built(BaseModel):
    """A class and its arguments, which the class checks itself."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    target: str = Field(alias="_target_")

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class _Partial(_Built):
    """A class of torch that gets its parameters later; its arguments are plain values, so they run no code."""

    partial: Literal[True] = Field(alias="_partial_", default=True)

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        for name, value in self.arguments.items():
            if name.startswith("_"):
                raise ValueError(f"takes no {name}")
            items = value if isinstance(value, list) else [value]
            if not all(item is None or isinstance(item, int | float | str) for item in items):
                raise ValueError(f"takes numbers, text and lists of them, got {name}={value!r}")
            if not all(abs(item) <= _LARGEST for item in items if isinstance(item, float)):
                raise ValueError(f"takes numbers up to 3.4e+38, got {name}={value!r}")
        return self


def _none_as_zero(value: Any) -> Any:
    return 0 if value is None else value


def _no_limit_or_some(value: int) -> int:
    if value != -1 and value < 1:
        raise ValueError("must be -1 (no limit) or at least 1")
    return value


_LARGEST = 3.4e38


def _finite_in_float32(value: float) -> float:
    """Networks compute in float32, in which a larger number is infinite."""
    if value > _LARGEST:
        raise ValueError("must be at most 3.4e+38")
    return value


Fraction = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0), AfterValidator(_finite_in_float32)]
Positive = Annotated[float, Field(gt=0), AfterValidator(_finite_in_float32)]
Count = Annotated[int, Field(ge=1)]

# The metrics of the validation set that `models.split_metrics` computes; repeated here because this module does not
# import torch.
Monitor = Literal[
    "val/loss", "val/accuracy", "val/precision", "val/recall", "val/specificity", "val/f1", "val/auroc",
    "val/calibration_error", "val/tn", "val/fp", "val/fn", "val/tp",
]  # fmt: skip
Mode = Literal["min", "max"]
Objective = Literal["latency_ms", "parameters", Monitor]


class AugmentSection(_Section):
    """Random changes of training images."""

    enabled: bool
    flip: Fraction
    shift: Annotated[float, Field(ge=0, le=0.5)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    brightness: Fraction
    rotate: Annotated[float, Field(ge=0, le=180)]
    erase: Fraction


class SplitSection(_Section):
    """Which images are in the training, validation and test sets."""

    by: Literal["person", "random", "file", "official"]
    test: Annotated[float, Field(gt=0, lt=1)]
    val: Annotated[float, Field(gt=0, lt=1)]
    file: str | None
    seed: Annotated[int, Field(ge=0)]


def _as_texts(value: Any) -> Any:
    """YAML reads class names such as 0 and 1 as numbers."""
    return {str(name): each for name, each in value.items()} if isinstance(value, dict) else value


# How many images per class.
Subset = Annotated[dict[str, Count], BeforeValidator(_as_texts)]


class DataSection(BaseModel):
    """The keys of every data source; the other keys of a source are checked by its reader."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    reader: _Built
    size: Annotated[int, Field(ge=0, le=4096), BeforeValidator(_none_as_zero)]
    color: Literal["gray", "rgb"]
    subset: Subset | None
    split: SplitSection
    augment: AugmentSection
    on_bad: Literal["error", "skip"]
    # Configs of earlier versions do not have this key; those versions kept both labels.
    on_conflict: Literal["error", "drop", "keep"] = "keep"


class ModelSection(_Section):
    """Network, weights and learning rates."""

    name: str
    backbone: _Built
    finetune_depth: Annotated[int, Field(ge=0)] | Literal["all"]
    weights: str | None
    head: str
    dropout: Annotated[float, Field(ge=0, lt=1)]
    lr: Positive
    head_lr: Positive
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    mixup: NotNegative
    ema: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] | None
    pos_weight: Annotated[Positive | Literal["balanced"] | dict[str, Positive], BeforeValidator(_as_texts)]
    flip_test: bool

    def check_weights_file(self) -> None:
        """Raises UserError if the file in `weights` does not exist; in a sweep, every trial would fail.

        A backbone that takes `weights` as an argument knows other choices besides files, and checks them itself.
        """
        if "weights" in self.backbone.arguments:
            return
        if self.weights not in {None, "auto", "imagenet"} and not Path(str(self.weights)).expanduser().is_file():
            raise UserError(NO_WEIGHTS.format(self.weights))


class OptimizerSection(_Partial):
    """The optimizer's class and its arguments, except for the learning rates, which belong to the model."""

    @model_validator(mode="after")
    def _has_no_rate(self) -> OptimizerSection:
        if "lr" in self.arguments:
            raise ValueError("takes no lr, set model.lr and model.head_lr")
        return self


class SchedulerSection(_Partial):
    """The scheduler's class and its arguments, and the warm-up before it."""

    target: str | None = Field(alias="_target_")  # type: ignore[assignment]  # none.yaml names no class
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TrainerSection(_Section):
    """Length of the training, batch sizes and devices."""

    max_epochs: Count
    max_steps: Annotated[int, AfterValidator(_no_limit_or_some)]
    batch_size: Count
    eval_batch_size: Count
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    channels_last: bool | Literal["auto"]
    compile: bool | Literal["auto"]
    gradient_clip: Positive | None
    on_oom: Literal["stop", "halve"]
    threads: Count | None
    progress: Literal["auto", "bars", "lines", "none"]
    accelerator: str
    devices: Count | Literal["auto"]
    strategy: str
    num_nodes: Count


def _switch(value: Any) -> Any:
    """YAML parses a bare on and off as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class FeaturesSection(_Section):
    """Stored outputs of frozen stages."""

    mode: Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]
    views: Count
    max_gb: Positive | None
    dtype: Literal["float16", "bfloat16", "float32"]


class TrackingSection(_Section):
    """Where the run is tracked."""

    experiment: Annotated[str, Field(min_length=1)]
    run_name: str | None
    close_timeout: Annotated[float, Field(ge=0)]
    uri: str | None
    root: str | None
    system_interval: Annotated[float, Field(ge=0)] = 10.0  # configs of earlier versions do not have it


class TrainConfig(_Section):
    """A whole training run."""

    data: DataSection
    model: ModelSection
    optimizer: OptimizerSection
    scheduler: SchedulerSection
    trainer: TrainerSection
    features: FeaturesSection
    tracking: TrackingSection
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    run_test: bool
    monitor: Monitor
    mode: Mode
    objectives: Annotated[list[Objective], Field(min_length=1)] | None
    ckpt_path: str | None
    # Configs of earlier versions do not have these two keys.
    output: Annotated[str, Field(min_length=1)] | None = None
    overwrite: bool = False
    # `core.command_line.alerts` has read it. Nothing stores it.
    alert: Any = Field(default=None, exclude=True)
    _written: dict[str, Any] | None = PrivateAttr(default=None)

    @property
    def written(self) -> dict[str, Any]:
        """The config before its interpolations are resolved, which is equal for two equivalent commands."""
        return self.model_dump(mode="json", by_alias=True) if self._written is None else self._written


class _SweepMetrics(_Section):
    """The part of a training's config that says what a sweep optimizes."""

    monitor: Monitor
    mode: Mode
    objectives: Annotated[list[Objective], Field(min_length=1)] | None


class AuditConfig(TrainConfig):
    """The config of a training run, whose data is audited, and the folder for the audit."""

    output: Annotated[str, Field(min_length=1)]


def parse(cfg: DictConfig) -> TrainConfig:
    """The typed config of a training run.

    Raises:
        UserError: as `parse_as`, or `mode` is the wrong direction for `monitor`.
    """
    raw = OmegaConf.to_container(cfg, resolve=False)
    renamed = rename_keys(raw)
    cfg = cfg if renamed is raw else OmegaConf.create(renamed)
    parsed = parse_as(cfg, TrainConfig)
    check_mode(parsed.monitor, parsed.mode, "monitor")
    written: Any = OmegaConf.to_container(cfg, resolve=False)
    written.pop("alert", None)
    parsed._written = written
    return parsed


def check_sweep_metrics(cfg: DictConfig) -> None:
    """Raises UserError, as `parse_as`, if a sweep optimizes metrics that no run has."""
    parse_as(OmegaConf.create({name: cfg[name] for name in _SweepMetrics.model_fields}), _SweepMetrics)


def parse_as(cfg: DictConfig, kind: type[C]) -> C:
    """The typed config of a command.

    Raises:
        UserError: a value is missing, of the wrong type or out of range; names every such key.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
    except InterpolationToMissingValueError as error:  # a key that only repeats the missing one came first
        missing = [str(error).partition("Missing mandatory value: ")[2].split()[0]]
    if missing:
        keys = ", ".join(missing)
        raise UserError(
            f"{keys} must be given and {'has' if len(missing) == 1 else 'have'} no default; add {missing[0]}=VALUE"
        )
    try:
        return kind.model_validate(OmegaConf.to_container(cfg, resolve=True))
    except ValidationError as error:
        # Each alternative of a union has a separate error with the same key.
        faults: dict[str, str] = {}
        for fault in error.errors():
            key, text = _describe(fault)
            if fault["type"] == "extra_forbidden":
                text = f"is no key of this command, got {fault['input']!r}{_suggest_instead(key, cfg)}"
            faults[key] = f"{faults[key]}, or {text}" if key in faults else text
        raise UserError("; ".join(f"{key} {text}" for key, text in faults.items())) from error


def _suggest_instead(key: str, cfg: DictConfig) -> str:
    """The end of an error message about an unknown key that was added with a plus."""
    known = dict.fromkeys(nested_keys(OmegaConf.to_container(cfg)))
    near = nearest_keys(key, [*(name for name in known if name != key and not name.startswith(f"{key}.")), "sweeps"])
    return f"; did you mean {' or '.join(near)}?" if near else "; remove it"


def _describe(fault: ErrorDetails) -> tuple[str, str]:
    """The key of a fault, and what is wrong with its value."""
    path = [str(part) for part in fault["loc"]]
    # pydantic appends the name of the alternative (`int`, `constrained-int`, `literal['all']`) to a union's key.
    while len(path) > 1 and (path[-1] in {"int", "float", "str", "bool"} or not path[-1].isidentifier()):
        path.pop()
    received = "" if fault["type"] == "missing" else f", got {fault['input']!r}"
    message = fault["msg"].removeprefix("Input ").removeprefix("Value error, ").replace("should be", "must be")
    message = re.sub(r"^(Value|List|String|Dictionary) should", "must", message)
    message = re.sub(r" after validation, not \d+$", "", message)
    message = message.replace("'val/tn'", "of two classes 'val/tn'")  # here the classes are not known yet
    return ".".join(path), f"{message[0].lower()}{message[1:]}{received}"
