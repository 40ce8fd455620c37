"""A trained network from any reference: the registry, a run, a checkpoint or a folder. Nothing is ever unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eyegender.core.errors import UserError
from eyegender.models.saved_network import SPEC_FILE, load_network, probabilities, untrained
from eyegender.tracking.faults import is_gone, is_refused
from eyegender.tracking.run_artifacts import NETWORK, fetched, logged_model, read_config
from eyegender.tracking.stored_config import parse_config
from eyegender.tracking.tracking_store import open_store
from eyegender.training.checkpoints import load_checkpoint

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities import LoggedModel
    from numpy.typing import NDArray

    from eyegender.core.schema import TrackingSection
    from eyegender.models.network import Network
    from eyegender.models.saved_network import ModelSpec
    from eyegender.tracking.stored_config import StoredConfig
    from eyegender.tracking.tracking_store import TrackingStore

FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID, a .ckpt file or a folder with card.json"


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode with what must be known to use it.

    Args:
        network: on the GPU where there is one.
        card: how it was built and what it takes.
        reference: what the user typed.
        run_id: of the run that trained it, where that is known.
        config: of that run, where it is known.
        store: where that run is, for a tracked model.
    """

    network: Network
    card: ModelSpec
    reference: str
    run_id: str | None = None
    config: StoredConfig | None = None
    store: TrackingStore | None = None

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of label 1, shape (N,), from pixels (N, C, size, size)."""
        return probabilities(self.network, self.card, pixels)


def load_model(reference: str, tracking: TrackingSection) -> LoadedModel:
    """The model that `reference` names.

    Args:
        reference: one of FORMS.
        tracking: where `models:/` and `runs:/` are looked up.

    Raises:
        UserError: it does not exist, is damaged, or is not one of this program's.
    """
    if reference.startswith("models:/"):
        store = open_store(tracking)
        return _tracked(store, registered(store, reference), reference)
    if reference.startswith("runs:/"):
        store = open_store(tracking)
        run_id = reference.removeprefix("runs:/").strip("/").partition("/")[0]
        model = logged_model(store, run_id)
        if model is None:
            raise UserError(f"run {run_id} in {store.name} logged no model; train it to its end, or give a checkpoint")
        return _tracked(store, model, reference)
    path = Path(reference).expanduser()
    if path.is_dir():
        return _from_folder(path, reference)
    if path.suffix == ".ckpt":
        return _from_checkpoint(path, reference)
    raise UserError(f"model must be {FORMS}; got {reference!r}")


def registered(store: TrackingStore, reference: str) -> LoggedModel:
    """The logged model behind `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `models:/m-ID`.

    Raises:
        UserError: no such model, alias or version.
    """
    what = reference.removeprefix("models:/").strip("/")
    client = store.client
    try:
        if "@" in what:
            version = client.get_model_version_by_alias(*what.split("@", 1))
        elif "/" in what:
            version = client.get_model_version(*what.split("/", 1))
        else:
            return client.get_logged_model(what)
    except Exception as error:  # of a database driver or an HTTP library
        if not (is_gone(error) or is_refused(error)):
            raise store.unreadable(reference, error) from error
        known = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none"
        raise UserError(
            f"no model {reference} in {store.name} (registered: {known}); give {FORMS}, or promote a run first"
        ) from error
    if version.model_id:
        return client.get_logged_model(version.model_id)
    model = logged_model(store, version.run_id) if version.run_id else None
    if model is None:
        raise UserError(f"{reference} was not logged by eyegender.train; give a model that was")
    return model


def _tracked(store: TrackingStore, model: LoggedModel, reference: str) -> LoadedModel:
    with fetched(store, model, NETWORK) as folder:
        network, card = load_network(folder)
    run_id = model.source_run_id
    config = read_config(store, run_id) if run_id else None
    return _placed(network, card, reference, run_id=run_id, config=config, store=store)


def _from_folder(path: Path, reference: str) -> LoadedModel:
    for folder in (path, path / "network", path / "model" / "network", path / NETWORK):
        if (folder / SPEC_FILE).is_file():
            network, card = load_network(folder)
            return _placed(network, card, reference)
    raise UserError(f"{path} holds no {SPEC_FILE}; give the model/network folder of a run's output, or a .ckpt file")


def _from_checkpoint(path: Path, reference: str) -> LoadedModel:
    checkpoint = load_checkpoint(path)
    output = path.absolute().parent.parent
    config = _config_beside(output)
    if config is None:
        raise UserError(
            f"{path} needs the readable config.yaml of its run in {output}; leave checkpoints in their run's folder, "
            "or give runs:/ID"
        )
    card = config.card()
    network = untrained(card)
    state = checkpoint["state_dict"]
    mine = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    try:
        network.load_state_dict(mine)
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip()
        raise UserError(
            f"{path} does not fit the config.yaml in {output} ({fault}); put them together again"
        ) from error
    identity: dict[str, Any] = checkpoint.get("run") or {}
    return _placed(network, card, reference, run_id=identity.get("run_id"), config=config)


def _placed(network: Network, card: ModelSpec, reference: str, **known: Any) -> LoadedModel:
    if torch.cuda.is_available():
        network.to("cuda")
    return LoadedModel(network, card, reference, **known)


def _config_beside(output: Path) -> StoredConfig | None:
    try:
        return parse_config((output / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
