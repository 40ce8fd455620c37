"""Loads a trained network from the registry, a run, a checkpoint or a folder. Nothing is ever unpickled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eyegender.core.errors import UserError
from eyegender.core.eye_study import is_eye_study
from eyegender.models.saved_network import SPEC_FILE, load_network, parse_spec, probabilities, untrained
from eyegender.tracking.errors import is_gone, is_refused
from eyegender.tracking.model_logging import NETWORK
from eyegender.tracking.run_artifacts import (
    BEST_CHECKPOINT,
    downloaded,
    logged_model,
    no_model,
    read_config,
    trial_folder,
)
from eyegender.tracking.stored_config import parse_config
from eyegender.tracking.tracking_store import open_store
from eyegender.training.checkpoints import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from mlflow.entities import LoggedModel
    from numpy.typing import NDArray
    from PIL import Image

    from eyegender.core.schema import TrackingSection
    from eyegender.models.network import Network
    from eyegender.models.saved_network import ModelSpec
    from eyegender.tracking.stored_config import StoredConfig
    from eyegender.tracking.tracking_store import TrackingStore

REFERENCE_FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID, a .ckpt file or a folder with card.json"


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode, and what is known of its origin.

    Args:
        network: the network, on the GPU if there is one.
        spec: how the network is built, and its input.
        reference: the reference as the user typed it.
        run_id: id of the run that trained the network; None if it is unknown.
        config: config of that run; None if it is unknown.
        store: the store that holds that run; None if the network was loaded from files.
    """

    network: Network = field(repr=False)
    spec: ModelSpec
    reference: str
    run_id: str | None = None
    config: StoredConfig | None = field(default=None, repr=False)
    store: TrackingStore | None = field(default=None, repr=False)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of label 1 (N,), or of each of K classes (N, K).

        Args:
            pixels: uint8 of shape (N, C, size, size), with the size of `spec`; C = 1 for gray images, which a model of
                color images takes, too, else 3.
                `predict` takes images of any size.

        Raises:
            UserError: another type or shape.
        """
        shape = (1 if self.spec.color == "gray" else 3, self.spec.size, self.spec.size)
        if not isinstance(pixels, np.ndarray):
            raise UserError(
                f"pixels must be a uint8 array (N, {_dims(shape)}), got {type(pixels).__name__}; use predict"
            )
        if pixels.dtype != np.uint8 or pixels.shape[1:] not in (shape, (1, *shape[1:])):
            raise UserError(
                f"pixels must be a uint8 array (N, {_dims(shape)}), got {pixels.dtype} ({_dims(pixels.shape)}); "
                "use predict, which takes images of any size"
            )
        return probabilities(self.network, self.spec, pixels)

    def predict(
        self,
        images: str | Path | Image.Image | NDArray[np.uint8] | Iterable[str | Path | Image.Image | NDArray[np.uint8]],
        *,
        min_confidence: float | None = None,
    ) -> pd.DataFrame:
        """Predict images: one row per image, with the columns that `eyegender predict` writes.

        Args:
            images: a folder (with all its subfolders), a file, an image of Pillow, an array (H, W) or (H, W, 3) of
                uint8, or several of them. The `path` of an image in memory is its position, such as `[0]`.
            min_confidence: give no label if the most likely class has a lower probability; 0..1, None always gives a
                label.

        Raises:
            UserError: a path does not exist, there is no image at all, or something is no image.
        """
        import pandas as pd

        from eyegender.inference.given_images import find_images
        from eyegender.inference.prediction import columns, predict

        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise UserError(f"min_confidence must be 0..1 or None, got {min_confidence}; correct it")
        batches = predict(self, find_images(images), min_confidence=min_confidence or 0.0)
        classes = self.spec.classes
        with_eyes = is_eye_study(classes)
        return pd.DataFrame([columns(row, classes, with_eyes=with_eyes) for batch in batches for row in batch])


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def load_model(reference: str, tracking: TrackingSection) -> LoadedModel:
    """Load the model that `reference` names.

    Args:
        reference: reference in one of REFERENCE_FORMS.
        tracking: config of the store in which `models:/` and `runs:/` are looked up.

    Raises:
        UserError: the model does not exist, is damaged, or was not made by this package.

    Example:
        >>> model = load_model("models:/eyegender@champion", tracking)  # doctest: +SKIP
        >>> model.probabilities(np.zeros((2, 1, 96, 96), np.uint8)).shape  # doctest: +SKIP
        (2,)
    """
    if reference.startswith("models:/"):
        store = open_store(tracking)
        return _from_store(store, find_registered(store, reference), reference)
    if reference.startswith("runs:/"):
        store = open_store(tracking)
        run_id = reference.removeprefix("runs:/").strip("/").partition("/")[0]
        model = logged_model(store, run_id)
        return _from_trial(store, run_id, reference) if model is None else _from_store(store, model, reference)
    path = Path(reference).expanduser()
    if path.is_dir():
        return _from_folder(path, reference)
    if path.suffix == ".ckpt":
        return _from_checkpoint(path, reference)
    raise UserError(f"model must be {REFERENCE_FORMS}; got {reference!r}")


def classes_of(store: TrackingStore, reference: str) -> tuple[str, ...] | None:
    """The classes of a model, without loading its weights; None if they are unknown.

    Args:
        store: the store in which `models:/` and `runs:/` are looked up.
        reference: as for `load_model`.

    Raises:
        UserError: there is no such model.
    """
    if reference.startswith("models:/"):
        model = find_registered(store, reference)
    elif reference.startswith("runs:/"):
        run_id = reference.removeprefix("runs:/").strip("/").partition("/")[0]
        logged = logged_model(store, run_id)
        if logged is None:
            config = read_config(store, run_id)
            return None if config is None else config.spec().classes
        model = logged
    else:
        path = Path(reference).expanduser()
        config = _read_config_file(path.absolute().parent.parent) if path.suffix == ".ckpt" else None
        if config is not None:
            return config.spec().classes
        spec_file = _spec_file(path)
        return None if spec_file is None else parse_spec(spec_file.read_text(encoding="utf-8")).classes
    with downloaded(store, model, f"{NETWORK}/{SPEC_FILE}") as file:
        return parse_spec(file.read_text(encoding="utf-8")).classes


def find_registered(store: TrackingStore, reference: str) -> LoggedModel:
    """The logged model of `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `models:/MODEL_ID`.

    Raises:
        UserError: there is no such model, alias or version.
    """
    name = reference.removeprefix("models:/").strip("/")
    client = store.client
    try:
        if "@" in name:
            version = client.get_model_version_by_alias(*name.split("@", 1))
        elif "/" in name:
            version = client.get_model_version(*name.split("/", 1))
        else:
            return client.get_logged_model(name)
    except Exception as error:  # of a database driver or an HTTP library
        if not (is_gone(error) or is_refused(error)):
            raise store.unreadable(reference, error) from error
        known = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none"
        raise UserError(
            f"no model {reference} in {store.name} (registered: {known}); give {REFERENCE_FORMS}, or "
            "promote a run first"
        ) from error
    if version.model_id:
        return client.get_logged_model(version.model_id)
    model = logged_model(store, version.run_id) if version.run_id else None
    if model is None:
        raise UserError(f"{reference} was not logged by eyegender.train; give a model that was")
    return model


def _from_store(store: TrackingStore, model: LoggedModel, reference: str) -> LoadedModel:
    with downloaded(store, model, NETWORK) as folder:
        network, spec = load_network(folder)
    run_id = model.source_run_id
    config = read_config(store, run_id) if run_id else None
    return _on_device(network, spec, reference, run_id=run_id, config=config, store=store)


def _from_trial(store: TrackingStore, run_id: str, reference: str) -> LoadedModel:
    """The best checkpoint of a trial that logged no model, from its folder on this machine."""
    run = store.run(run_id)
    folder = trial_folder(run)
    if folder is None:
        raise no_model(store, run)
    return replace(_from_checkpoint(folder / BEST_CHECKPOINT, reference), run_id=run_id, store=store)


def _from_folder(path: Path, reference: str) -> LoadedModel:
    spec_file = _spec_file(path)
    if spec_file is not None:
        network, spec = load_network(spec_file.parent)
        # A run's output has config.yaml beside model/network; elsewhere, such a file may belong to something else.
        output = spec_file.absolute().parents[2]
        config = _read_config_file(output) if spec_file.absolute() == output / "model" / "network" / SPEC_FILE else None
        return _on_device(network, spec, reference, config=config)
    raise UserError(f"{path} holds no {SPEC_FILE}; give the model/network folder of a run's output, or a .ckpt file")


def _spec_file(path: Path) -> Path | None:
    """The specification of the network in a folder."""
    folders = (path, path / "network", path / "model" / "network", path / NETWORK)
    return next((folder / SPEC_FILE for folder in folders if (folder / SPEC_FILE).is_file()), None)


def _from_checkpoint(path: Path, reference: str) -> LoadedModel:
    checkpoint = load_checkpoint(path)
    output = path.absolute().parent.parent
    config = _read_config_file(output)
    if config is None:
        raise UserError(
            f"{path} needs the readable config.yaml of its run in {output}; leave checkpoints in their run's folder, "
            "or give runs:/ID"
        )
    spec = config.spec(checkpoint.get("classes"))
    network = untrained(spec)
    state = checkpoint["state_dict"]
    weights = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip()
        raise UserError(
            f"{path} does not fit the config.yaml in {output} ({fault}); restore the config.yaml of its run"
        ) from error
    identity: dict[str, Any] = checkpoint.get("run") or {}
    return _on_device(network, spec, reference, run_id=identity.get("run_id"), config=config)


def _on_device(network: Network, spec: ModelSpec, reference: str, **origin: Any) -> LoadedModel:
    if torch.cuda.is_available():
        network.to("cuda")
    return LoadedModel(network, spec, reference, **origin)


def _read_config_file(output: Path) -> StoredConfig | None:
    try:
        return parse_config((output / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
