"""What the composed configs of the commands for finished runs must look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from eyegender.core.schema import DataSection, TrackingSection  # noqa: TC001 - pydantic reads it


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_texts(value: object) -> object:
    """Folders may be called 0 and 1, which YAML takes for numbers."""
    return {str(key): str(name) for key, name in value.items()} if isinstance(value, dict) else value


Names = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    tracking: TrackingSection


class StudyOptions(BaseModel):
    """Which study, and where its report goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(min_length=1)]
    storage: Annotated[str, Field(min_length=1)]
    output: Annotated[str, Field(min_length=1)]


class SyncOptions(BaseModel):
    """Which runs, and to which store."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    folder: Annotated[str, Field(min_length=1)] | None
    uri: Annotated[str, Field(min_length=1)] | None


class CompareOptions(_Options):
    """Which runs stand side by side."""

    runs: Names | None
    study: Annotated[str, Field(min_length=1)] | None
    pick: Literal["best", "all"]
    by: Annotated[str, Field(pattern=r"^val/\w+$")]
    mode: Literal["min", "max"]
    latency: bool
    output: Annotated[str, Field(min_length=1)]


class EvaluateOptions(_Options):
    """Which model, on which pictures."""

    model: Annotated[str, Field(min_length=1)]
    data: DataSection | None = None
    classes: Annotated[dict[str, str], BeforeValidator(_as_texts)] | None
    part: Literal["all", "train", "val", "test"] | None
    grad_cam: Annotated[int, Field(ge=0, le=48)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    output: Annotated[str, Field(min_length=1)]


class PredictOptions(_Options):
    """Which model, on which files, and what becomes of doubt."""

    model: Annotated[str, Field(min_length=1)]
    images: Names
    output: Annotated[str, Field(min_length=1)]
    min_confidence: Annotated[float, Field(ge=0.5, le=1)]
    faces: bool
    eyes: str | None
    crop: Annotated[float, Field(gt=0, le=4)]
    grad_cam: str | None


class PromoteOptions(_Options):
    """Which run, under which name."""

    run: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(pattern=r"^[\w. -]+$")]
    alias: Annotated[str, Field(pattern=r"^[\w-]+$")]
    force: bool


class ExportOptions(_Options):
    """Which model, into which file."""

    model: Annotated[str, Field(min_length=1)]
    format: Literal["onnx"]
    output: Annotated[str, Field(min_length=1)]


class DemoOptions(_Options):
    """Which models to choose between, and where the page is."""

    models: Names | None
    host: Annotated[str, Field(pattern=r"^[\w.:-]+$")]
    port: Annotated[int, Field(ge=0, le=65535)]
