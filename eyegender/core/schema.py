"""What a composed config must look like, checked before torch is imported or a file is touched."""

from __future__ import annotations

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

from eyegender.core.errors import UserError
from eyegender.core.known_keys import keys_of, nearest
from eyegender.core.objectives import check_mode
from eyegender.core.renamed_keys import with_new_keys

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

NO_WEIGHTS = "model.weights: no file {}; give a .pth or .safetensors state dict, imagenet, auto or null"

C = TypeVar("C", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Built(BaseModel):
    """A class and its arguments; it checks them itself."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    target: str = Field(alias="_target_")

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class _Partial(_Built):
    """A class of torch's that is given its parameters later; its arguments are plain values, which run no code."""

    partial: Literal[True] = Field(alias="_partial_", default=True)

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        for name, value in self.arguments.items():
            if name.startswith("_"):
                raise ValueError(f"takes no {name}")
            parts = value if isinstance(value, list) else [value]
            if not all(part is None or isinstance(part, int | float | str) for part in parts):
                raise ValueError(f"takes numbers, text and lists of them, got {name}={value!r}")
            if not all(abs(part) <= LARGEST for part in parts if isinstance(part, float)):
                raise ValueError(f"takes numbers up to 3.4e+38, got {name}={value!r}")
        return self


def _none_as_zero(value: Any) -> Any:
    return 0 if value is None else value


def _no_limit_or_some(value: int) -> int:
    if value != -1 and value < 1:
        raise ValueError("must be -1 (no limit) or at least 1")
    return value


LARGEST = 3.4e38


def _finite_in_float32(value: float) -> float:
    """Networks count in float32, in which a larger number is infinite."""
    if value > LARGEST:
        raise ValueError("must be at most 3.4e+38")
    return value


Fraction = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0), AfterValidator(_finite_in_float32)]
Positive = Annotated[float, Field(gt=0), AfterValidator(_finite_in_float32)]
Count = Annotated[int, Field(ge=1)]

# What `models.metrics.SplitMetrics` gives of the validation part; named here, too, as this module imports no torch.
Monitor = Literal[
    "val/loss", "val/accuracy", "val/precision", "val/recall", "val/specificity", "val/f1", "val/auroc",
    "val/calibration_error", "val/tn", "val/fp", "val/fn", "val/tp",
]  # fmt: skip
Mode = Literal["min", "max"]
Objective = Literal[Monitor, "latency_ms", "parameters"]


class AugmentSection(_Section):
    """Random changes of training pictures."""

    enabled: bool
    flip: Fraction
    shift: Annotated[float, Field(ge=0, le=0.5)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    brightness: Fraction
    rotate: Annotated[float, Field(ge=0, le=180)]
    erase: Fraction


class SplitSection(_Section):
    """Which pictures train, choose and test."""

    by: Literal["person", "random", "file", "official"]
    test: Annotated[float, Field(gt=0, lt=1)]
    val: Annotated[float, Field(gt=0, lt=1)]
    file: str | None
    seed: Annotated[int, Field(ge=0)]


class SubsetSection(_Section):
    """How many pictures per class."""

    female: Count
    male: Count


class DataSection(BaseModel):
    """Keys that every source has; a source's own keys are checked by its reader."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    reader: _Built
    size: Annotated[int, Field(ge=0, le=4096), BeforeValidator(_none_as_zero)]
    color: Literal["gray", "rgb"]
    subset: SubsetSection | None
    split: SplitSection
    augment: AugmentSection
    on_bad: Literal["error", "skip"]
    # Configs of runs from before there was a choice have none: their pictures stayed.
    on_conflict: Literal["error", "drop", "keep"] = "keep"


class ModelSection(_Section):
    """Network, weights and optimization."""

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
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    pos_weight: Positive | Literal["balanced"]
    flip_test: bool

    def check_weights_file(self) -> None:
        """Raises UserError where `weights` names a file that is not there; a sweep would fail trial by trial."""
        if self.weights not in {None, "auto", "imagenet"} and not Path(str(self.weights)).expanduser().is_file():
            raise UserError(NO_WEIGHTS.format(self.weights))


class OptimizerSection(_Partial):
    """The optimizer's class and its arguments, but for the learning rates: those are the model's."""

    @model_validator(mode="after")
    def _has_no_rate(self) -> OptimizerSection:
        if "lr" in self.arguments:
            raise ValueError("takes no lr, set model.lr and model.head_lr")
        return self


class SchedulerSection(_Partial):
    """The scheduler's class and its arguments, and a warm-up before."""

    target: str | None = Field(alias="_target_")  # type: ignore[assignment]  # none.yaml names no class
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TrainerSection(_Section):
    """Length, batches and machine."""

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
    """YAML reads a bare on and off as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class FeaturesSection(_Section):
    """Outputs of frozen stages that are stored."""

    mode: Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]
    views: Count
    max_gb: Positive | None
    dtype: Literal["float16", "bfloat16", "float32"]


class TrackingSection(_Section):
    """Where the run is told."""

    experiment: Annotated[str, Field(min_length=1)]
    run_name: str | None
    close_timeout: Annotated[float, Field(ge=0)]
    uri: str | None
    root: str | None


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
    _written: dict[str, Any] | None = PrivateAttr(default=None)

    @property
    def written(self) -> dict[str, Any]:
        """The config before its interpolations were resolved: what two commands that mean the same have in common."""
        return self.model_dump(mode="json", by_alias=True) if self._written is None else self._written


class _JudgedBy(_Section):
    """The part of a training's config that a sweep judges its trials by."""

    monitor: Monitor
    mode: Mode
    objectives: Annotated[list[Objective], Field(min_length=1)] | None


class AuditConfig(TrainConfig):
    """A training run's config, and where what is said of its data goes."""

    output: Annotated[str, Field(min_length=1)] | None


def parse(cfg: DictConfig) -> TrainConfig:
    """The typed config of a training run; raises UserError as `parse_as` does, and where `mode` wants the worst."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    moved = with_new_keys(raw)
    cfg = cfg if moved is raw else OmegaConf.create(moved)
    parsed = parse_as(cfg, TrainConfig)
    check_mode(parsed.monitor, parsed.mode, "monitor")
    written: Any = OmegaConf.to_container(cfg, resolve=False)
    parsed._written = written
    return parsed


def check_judged_by(cfg: DictConfig) -> None:
    """Before a sweep: raises UserError, as `parse`, where no run has the metrics that it would judge its trials by."""
    parse_as(OmegaConf.create({name: cfg[name] for name in _JudgedBy.model_fields}), _JudgedBy)


def parse_as(cfg: DictConfig, kind: type[C]) -> C:
    """The typed config of a command.

    Raises:
        UserError: a value is missing, of the wrong type or out of range; names every such key.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
    except InterpolationToMissingValueError as error:  # a key that only repeats the missing one was looked at first
        missing = [str(error).partition("Missing mandatory value: ")[2].split()[0]]
    if missing:
        keys = ", ".join(missing)
        raise UserError(
            f"{keys} must be given and {'has' if len(missing) == 1 else 'have'} no default; add {missing[0]}=VALUE"
        )
    try:
        return kind.model_validate(OmegaConf.to_container(cfg, resolve=True))
    except ValidationError as error:
        # Of a union only the first alternative's complaint is told; the others would repeat the key.
        faults: dict[str, str] = {}
        for fault in error.errors():
            key, text = _told(fault)
            if fault["type"] == "extra_forbidden":
                text = f"is no key of this command, got {fault['input']!r}{_instead(key, cfg)}"
            faults[key] = f"{faults[key]}, or {text}" if key in faults else text
        told = "; ".join(f"{key} {text}" for key, text in faults.items())
        raise UserError(f"{told}") from error


def _instead(key: str, cfg: DictConfig) -> str:
    """What may have been meant by a key that was added with a plus."""
    known = dict.fromkeys(keys_of(OmegaConf.to_container(cfg)))
    near = nearest(key, [*(name for name in known if name != key and not name.startswith(f"{key}.")), "sweeps"])
    return f"; did you mean {' or '.join(near)}?" if near else "; remove it"


def _told(fault: ErrorDetails) -> tuple[str, str]:
    path = [str(part) for part in fault["loc"]]
    # pydantic appends the name of the alternative (`int`, `constrained-int`, `literal['all']`) to a union's key.
    while len(path) > 1 and (path[-1] in {"int", "float", "str", "bool"} or not path[-1].isidentifier()):
        path.pop()
    received = "" if fault["type"] == "missing" else f", got {fault['input']!r}"
    message = fault["msg"].removeprefix("Input ").removeprefix("Value error, ").replace("should be", "must be")
    return ".".join(path), f"{message[0].lower()}{message[1:]}{received}"
