"""Makes a run's model the champion of the registry, unless the current champion is better on the same test images."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.run_record import load_record
from eyegender.comparison.selection import SelectedRun
from eyegender.comparison.significance import McNemar, mcnemar
from eyegender.core.errors import UserError
from eyegender.core.eye_study import is_eye_study
from eyegender.models.saved_network import SPEC_FILE, parse_spec
from eyegender.registry.model_card import CARD_FILE, describe, model_card
from eyegender.studies.winner import evaluate_trial
from eyegender.tracking.errors import first_line, is_gone, is_refused
from eyegender.tracking.model_logging import NETWORK
from eyegender.tracking.names import SELECTION_BIAS
from eyegender.tracking.run_artifacts import (
    downloaded,
    logged_model,
    lost_predictions,
    no_model,
    read_predictions,
    trial_folder,
)

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

    from eyegender.tracking.predictions import Predictions
    from eyegender.tracking.tracking_store import TrackingStore

# Length of the column for a version's description in the registry's database.
MAX_DESCRIPTION = 5000
EYES = "Predicts CelebA's binary label from an image of one eye."
VERSIONS_TAG = "mlflow.modelVersions"

log = logging.getLogger("eyegender")


@dataclass(frozen=True)
class Promotion:
    """The result of a promotion.

    Args:
        name: name of the registered model.
        version: the version that the alias points to, new or already registered.
        alias: the alias.
        sentences: how the model compares with the previous champion, and which check `force` overruled.
        card: the model card in Markdown.
    """

    name: str
    version: str
    alias: str
    sentences: tuple[str, ...]
    card: str


def promote(store: TrackingStore, run_id: str, *, name: str, alias: str, force: bool) -> Promotion:
    """Register the run's model, write its card, and move the alias to it.

    Args:
        store: the tracking store, which is the registry, too.
        run_id: id of a finished and tested run.
        name: name of the registered model, created if it does not exist.
        alias: alias to set.
        force: whether to promote even if the champion is better or shares no test image with the run.

    Raises:
        UserError: there is no such run or model, the run was not tested, or a check fails and `force` is false.
    """
    run = store.run(run_id)
    model = logged_model(store, run_id)
    if model is None:
        run, model = _log_trial(store, run)
    record = load_record(store, SelectedRun(run), "val/accuracy", latency=True)
    if record.predictions is None:
        if lost := lost_predictions(run):
            raise UserError(f"run {run_id} {lost}; put its artifacts back there, or train it again")
        raise UserError(f"run {run_id} stored no test predictions, so its quality is unknown; train with run_test=true")
    champion = _champion(store, name, alias)
    sentences: list[str] = []
    if champion is not None and champion.run_id == run_id:
        already = f"The run's model is already the {alias}."
        return Promotion(name, str(champion.version), alias, (already,), str(champion.description or ""))
    uses = 0
    if champion is not None:
        # Before the comparison: the test images have helped to choose, even if this model is refused.
        uses = _count_use(store, name, run_id, record.predictions)
        sentences.append(_compare_with_champion(store, record.predictions, champion, alias, force=force))
    with downloaded(store, model, f"{NETWORK}/{SPEC_FILE}") as path:
        classes = parse_spec(path.read_text(encoding="utf-8")).classes
    about = EYES if is_eye_study(classes) else describe(classes)
    with store.as_global():  # the registry finds the model through MLflow's global state
        version = _register(store, name, run_id, model, about)
    uses = uses or _count_use(store, name, run_id, record.predictions)
    card = model_card(
        record, name=name, version=version, classes=classes, comparison=tuple(sentences),
        chosen=how_chosen(store, run), uses=uses,
    )  # fmt: skip
    store.client.log_text(run_id, card, CARD_FILE)
    store.client.update_model_version(name, version, description=_shorten(card, run_id))
    # Last, so that the alias always points to a complete version.
    store.client.set_registered_model_alias(name, alias, version)
    return Promotion(name, version, alias, tuple(sentences), card)


def _log_trial(store: TrackingStore, run: Run) -> tuple[Run, LoggedModel]:
    """Test a trial of a sweep, which logged no model, from its checkpoint, and log the model; the run as it is now.

    Raises:
        UserError: this machine does not have its checkpoint or its data, or the store does not take the model.
    """
    folder = trial_folder(run)
    if folder is None:
        raise no_model(store, run)
    log.info("trial %s was not tested yet; its best checkpoint is tested now", run.data.tags["trial.number"])
    evaluate_trial(folder, store.location.uri, None, tags={"tested.by": "promote"})
    model = logged_model(store, run.info.run_id)
    if model is None:
        raise UserError(
            f"the model of run {run.info.run_id} must reach {store.name}, got no answer in time; "
            f"send it with eyegender sync folder={folder}, then promote the run again"
        )
    return store.run(run.info.run_id), model


def compare_on_shared_images(first: Predictions, second: Predictions) -> McNemar | None:
    """McNemar's test on the images that both models were tested on with the same label; None if there are none.

    The test is over persons if one of the two knows them.
    """
    position = {image: i for i, image in enumerate(second.labeled_keys)}
    pairs = [(i, position[image]) for i, image in enumerate(first.labeled_keys) if image in position]
    if not pairs:
        return None
    one, other = np.array(pairs).T
    persons = None
    if first.persons is not None:
        persons = [first.persons[i] for i in one]
    elif second.persons is not None:
        persons = [second.persons[i] for i in other]
    return mcnemar(first.correct[one], second.correct[other], persons)


def _compare_with_champion(
    store: TrackingStore, predictions: Predictions, champion: ModelVersion, alias: str, *, force: bool
) -> str:
    """A sentence on how the model compares with the champion; raises UserError if that forbids the promotion."""
    title = f"the {alias} (version {champion.version})"
    others = read_predictions(store, champion.run_id) if champion.run_id else None
    test = None if others is None else compare_on_shared_images(predictions, others)
    if test is None:
        reason = f"the new model and {title} share no test image, so it is unknown which one is better"
        if not force:
            raise UserError(f"{reason}; train it on the data and split of the {alias}, or set force=true")
        return f"Promoted by force: {reason}."
    verdict = test.verdict("the new model", title)
    verdict = verdict[0].upper() + verdict[1:]
    if test.difference >= 0:
        return verdict
    better = f"{title} is right on {test.only_second - test.only_first} more of {test.n:,} shared test images"
    if not force:
        raise UserError(f"{better}. {verdict} Set force=true to promote anyway")
    return f"Promoted by force although {better}. {verdict}"


def _count_use(store: TrackingStore, name: str, run_id: str, predictions: Predictions) -> int:
    """How many models of this name were chosen or refused by these test images, this one included.

    The registered model has a tag for each of them, so no count is lost if two are promoted at once.
    """
    images = f"test_images.{predictions.fingerprint[:16]}."
    try:
        store.client.set_registered_model_tag(name, images + run_id, "chosen or refused by them")
        tags = store.client.get_registered_model(name).tags
    except Exception as error:  # of a database driver or an HTTP library
        raise store.unreadable(name, error) from error
    return sum(tag.startswith(images) for tag in tags)


def how_chosen(store: TrackingStore, run: Run) -> str | None:
    """From which trials of which study the run was chosen, and what that says; None for a single run."""
    tags = run.data.tags
    if "trial.number" not in tags or "mlflow.parentRunId" not in tags:
        return None
    parent = store.run(tags["mlflow.parentRunId"]).data.tags
    sentence = f"Trial {tags['trial.number']} of study {parent.get('study.name', '?')}."
    return f"{sentence} {parent.get(SELECTION_BIAS, '')}".rstrip()


def _champion(store: TrackingStore, name: str, alias: str) -> ModelVersion | None:
    """The version that the alias points to; None only if the registry confirms that there is none.

    Raises:
        UserError: the registry does not respond, so it is unknown whether there is one.
    """
    try:
        version = store.client.get_registered_model(name).aliases.get(alias)
        return None if version is None else store.client.get_model_version(name, version)
    except Exception as error:  # of a database driver or an HTTP library
        if is_gone(error):
            return None
        if is_refused(error):
            raise _bad_name(name, error) from error
        raise store.unreadable(f"the {alias} of {name}", error) from error


def _bad_name(name: str, error: Exception) -> UserError:
    return UserError(f"name must be valid in MLflow's registry, got {name!r} ({first_line(error)}); set name=")


def _register(store: TrackingStore, name: str, run_id: str, model: LoggedModel, about: str) -> str:
    """The version of this model, created if it does not exist; `about` describes a new registered model."""
    client = store.client
    try:
        client.create_registered_model(name, description=about)
    except Exception as error:  # of a database driver or an HTTP library
        if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
            raise (_bad_name(name, error) if is_refused(error) else store.unreadable(name, error)) from error
    source = f"models:/{model.model_id}"
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == source:
            return str(version.version)
    created = client.create_model_version(name, source, run_id=run_id, model_id=model.model_id)
    # MLflow's page of the logged model reads its versions from this tag.
    versions = [*json.loads(model.tags.get(VERSIONS_TAG, "[]")), {"name": name, "version": str(created.version)}]
    client.set_logged_model_tags(model.model_id, {VERSIONS_TAG: json.dumps(versions)})
    return str(created.version)


def _shorten(card: str, run_id: str) -> str:
    if len(card) <= MAX_DESCRIPTION:
        return card
    rest = f"\n\n… the complete card is {CARD_FILE} of run {run_id}."
    return card[: MAX_DESCRIPTION - len(rest)] + rest
