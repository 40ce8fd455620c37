"""The schemas of the configs of all commands except training and audit."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from eyegender.core.schema import DataSection, TrackingSection  # noqa: TC001 - pydantic reads it


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_texts(value: object) -> object:
    """YAML parses folder names such as 0 and 1 as numbers."""
    return {str(key): str(name) for key, name in value.items()} if isinstance(value, dict) else value


def _of(pattern: str, rule: str) -> AfterValidator:
    """A check of a whole text that says its rule in words."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {rule}")
        return text

    return AfterValidator(check)


Names = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]


def _study(value: object) -> object:
    """The name of a study or a list of two names or more; one check, because pydantic would report two errors."""
    names = value if isinstance(value, list) else [value]
    if value is not None and not (names and all(isinstance(name, str) and name for name in names)):
        raise ValueError("must be the name of a study, or a list of names")
    return names[0] if len(names) == 1 else value


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    tracking: TrackingSection


class StudyOptions(BaseModel):
    """The study, and the folder for its report."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(min_length=1)]
    storage: Annotated[str, Field(min_length=1)]
    output: Annotated[str, Field(min_length=1)]
    overwrite: bool


class SyncOptions(BaseModel):
    """The runs, and the tracking store to send them to."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    folder: Annotated[str, Field(min_length=1)] | None
    uri: Annotated[str, Field(min_length=1)] | None


class CompareOptions(_Options):
    """The runs to compare."""

    runs: Names | None
    study: Annotated[Any, AfterValidator(_study)]  # str | list[str] | None
    storage: Annotated[str, Field(min_length=1)]
    pick: Literal["best", "all"]
    by: Annotated[str, _of(r"val/\w+", "a validation metric, such as val/accuracy")]
    mode: Literal["min", "max"]
    split: Literal["test", "val"] | None
    latency: bool
    output: Annotated[str, Field(min_length=1)]
    overwrite: bool


class EvaluateOptions(_Options):
    """The model, and the images to evaluate it on."""

    model: Annotated[str, Field(min_length=1)]
    data: DataSection | None = None
    classes: Annotated[dict[str, str], BeforeValidator(_as_texts)] | None
    split: Literal["all", "train", "val", "test"] | None
    grad_cam: Annotated[int, Field(ge=0, le=48)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    output: Annotated[str, Field(min_length=1)]
    overwrite: bool


class PredictOptions(_Options):
    """The model, the files, and the minimum confidence of a prediction."""

    model: Annotated[str, Field(min_length=1)]
    images: Names
    output: Annotated[str, Field(min_length=1)]
    overwrite: bool
    min_confidence: Annotated[float, Field(ge=0.5, le=1)] | None
    faces: bool
    eyes: str | None
    crop: Annotated[float, Field(gt=0, le=4)]
    grad_cam: str | None


class PromoteOptions(_Options):
    """The run, and the registered name and alias of its model."""

    run: Annotated[str, Field(min_length=1)]
    name: Annotated[str, _of(r"[\w. -]+", "letters, digits, spaces, dots, _ and - only")]
    alias: Annotated[str, _of(r"[\w-]+", "letters, digits, _ and - only")]
    force: bool


class ExportOptions(_Options):
    """The model, and the file to export it to."""

    model: Annotated[str, Field(min_length=1)]
    format: Literal["onnx"]
    output: Annotated[str, Field(min_length=1)]
    overwrite: bool


class ExportReportOptions(_Options):
    """The run to share, and the folder for its report, model card and model."""

    run: Annotated[str, Field(min_length=1)]
    images: bool
    output: Annotated[str, Field(min_length=1)]
    overwrite: bool


class DemoOptions(_Options):
    """The models to choose between, and the address of the page."""

    models: Names | None
    host: Annotated[str, _of(r"[\w.:-]+", "an address or a name of this machine, such as 127.0.0.1")]
    port: Annotated[int, Field(ge=0, le=65535)]
