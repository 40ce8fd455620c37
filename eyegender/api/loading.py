"""`eyegender.load_model` and `eyegender.load_study`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from eyegender.api.running import ConfigOf
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import optuna

    from eyegender.api.overrides import Overrides
    from eyegender.core.schema import TrackingSection
    from eyegender.inference.load import LoadedModel


def load_model(reference: str | os.PathLike[str], overrides: Overrides = None) -> LoadedModel:
    """A trained model.

    Args:
        reference: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/ID`, a .ckpt file in its run's folder, or a
            folder with card.json.
        overrides: keys of `tracking`, such as `{"tracking.root": FOLDER}`, for a store elsewhere.

    Raises:
        UserError: the model does not exist, is damaged, or was not made by this package.

    Example:
        >>> load_model("models:/eyegender@champion").predict("pictures")  # doctest: +SKIP
    """
    if not isinstance(reference, str | os.PathLike):
        raise UserError(
            "model must be models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID, a .ckpt file or a folder with card.json"
            f", got {reference!r}; give one of them"
        )
    with ConfigOf("predict", ("tracking",)).opened() as config:
        tracking = tracking_of(config, overrides)
        from eyegender.inference.load import load_model as load

        return load(os.fspath(reference), tracking)


def load_local_model(folder: Path, run_id: str | None) -> LoadedModel:
    """The best model of a run from its own folder."""
    with ConfigOf("predict", ("tracking",)).opened() as config:
        tracking = tracking_of(config, None)
        from eyegender.inference.load import load_model as load

        saved = folder / "model" / "network"
        model = load(str(saved if saved.is_dir() else folder / "checkpoints" / "best.ckpt"), tracking)
        return replace(model, run_id=run_id)


def tracking_of(config: ConfigOf, overrides: Overrides) -> TrackingSection:
    """The section `tracking` of a command's config."""
    from eyegender.core.schema import TrackingSection, parse_as

    return parse_as(config.composed(config.lines(overrides)).tracking, TrackingSection)


def load_study(name: str, storage: str | None = None) -> optuna.Study:
    """Optuna's own study, for plots and importances.

    Args:
        name: name of the study, `hydra.sweeper.study_name` of the sweep.
        storage: as in `hydra.sweeper.storage`; None for that of our sweeps, `mlruns/optuna.db`.

    Raises:
        UserError: the storage cannot be opened or has no such study.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"name must be the name of a study, got {name!r}; give hydra.sweeper.study_name of the sweep")
    if not isinstance(storage, str | None):
        raise UserError(f"storage must be a text such as sqlite:///FILE, or None, got {storage!r}; correct it")
    with ConfigOf("study").opened() as config:
        cfg = config.composed(config.lines({"name": name} | ({} if storage is None else {"storage": storage})))
        from hydra_plugins.optuna_study import load_study as load

        return load(cfg.storage, cfg.name)
