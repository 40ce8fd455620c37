"""A run's model becomes the champion of the registry, unless the present champion is better on the same pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eyegender.comparison.run_record import load_record, read_card
from eyegender.comparison.selection import SelectedRun
from eyegender.comparison.significance import McNemar, mcnemar
from eyegender.core.errors import UserError
from eyegender.models.saved_network import CARD
from eyegender.registry.model_card import CARD_FILE, model_card
from eyegender.tracking.errors import first_line, is_gone, is_refused
from eyegender.tracking.run_artifacts import NETWORK, downloaded, logged_model, lost_predictions, read_predictions

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

    from eyegender.tracking.predictions import Predictions
    from eyegender.tracking.tracking_store import TrackingStore

# The registry's SQL column for a version's description is this long.
MOST_DESCRIPTION = 5000
VERSIONS_TAG = "mlflow.modelVersions"


@dataclass(frozen=True)
class Promotion:
    """What was promoted, and over whom.

    Args:
        name: of the registered model.
        version: the new or already registered version.
        alias: that now points to it.
        sentences: how it compares with the champion before it, and what was overruled.
        card: the model card, Markdown.
    """

    name: str
    version: str
    alias: str
    sentences: tuple[str, ...]
    card: str


def promote(store: TrackingStore, run_id: str, *, name: str, alias: str, force: bool) -> Promotion:
    """Register the run's model, write its card, and move the alias to it.

    Args:
        store: tracking store and registry in one.
        run_id: of a finished, tested run.
        name: of the registered model, made if it is missing.
        alias: to set.
        force: also over a champion that is better, or that cannot be compared.

    Raises:
        UserError: no such run or model, the run was not tested, or the champion is better and `force` is false.
    """
    run = store.run(run_id)
    model = logged_model(store, run_id)
    if model is None:
        raise UserError(f"run {run_id} in {store.name} logged no model; train it to its end, or give another run=")
    record = load_record(store, SelectedRun(run), "val/accuracy", latency=True)
    if record.predictions is None:
        if lost := lost_predictions(run):
            raise UserError(f"run {run_id} {lost}; put its artifacts back there, or train it again")
        raise UserError(
            f"run {run_id} stored no test predictions, so nothing says how good it is; train with run_test=true"
        )
    champion = _champion(store, name, alias)
    sentences: list[str] = []
    if champion is not None and champion.run_id == run_id:
        already = f"The run's model is the {alias} already."
        return Promotion(name, str(champion.version), alias, (already,), str(champion.description or ""))
    if champion is not None:
        sentences.append(_judge(store, record.predictions, champion, alias, force=force))
    with store.as_global():  # the registry looks the model up through MLflow's global state
        version = _register(store, name, run_id, model)
    with downloaded(store, model, f"{NETWORK}/{CARD}") as path:
        classes = read_card(path.read_text(encoding="utf-8")).classes
    card = model_card(record, name=name, version=version, classes=classes, compared=tuple(sentences))
    store.client.log_text(run_id, card, CARD_FILE)
    store.client.update_model_version(name, version, description=_shortened(card, run_id))
    # Last: an alias points to a version that is complete.
    store.client.set_registered_model_alias(name, alias, version)
    return Promotion(name, version, alias, tuple(sentences), card)


def shared_test(first: Predictions, second: Predictions) -> McNemar | None:
    """McNemar's test on the pictures that both were tested on, with the same label; None where there are none.

    It counts persons where one of the two knows them.
    """
    theirs = {
        (key, int(label)): place for place, (key, label) in enumerate(zip(second.keys, second.labels, strict=True))
    }
    pairs = [
        (mine, theirs[key, int(label)])
        for mine, (key, label) in enumerate(zip(first.keys, first.labels, strict=True))
        if (key, int(label)) in theirs
    ]
    if not pairs:
        return None
    one, other = np.array(pairs).T
    persons = None
    if first.persons is not None:
        persons = [first.persons[place] for place in one]
    elif second.persons is not None:
        persons = [second.persons[place] for place in other]
    return mcnemar(first.correct[one], second.correct[other], persons)


def _judge(store: TrackingStore, mine: Predictions, champion: ModelVersion, alias: str, *, force: bool) -> str:
    """How the two compare, as a sentence; raises UserError where that forbids the promotion."""
    who = f"{alias} (version {champion.version})"
    theirs = read_predictions(store, champion.run_id) if champion.run_id else None
    test = None if theirs is None else shared_test(mine, theirs)
    if test is None:
        why = f"the new model and the {who} share no test picture, so nobody knows which one is better"
        if not force:
            raise UserError(f"{why}; train it on the {alias}'s data and split, or set force=true")
        return f"Promoted by force: {why}."
    verdict = test.verdict("the new model", f"the {who}")
    verdict = verdict[0].upper() + verdict[1:]
    if test.difference >= 0:
        return verdict
    points = f"the {who} is right on {test.only_second - test.only_first} more of {test.n:,} shared test pictures"
    if not force:
        raise UserError(f"{points}. {verdict} Set force=true to promote all the same")
    return f"Promoted by force although {points}. {verdict}"


def _champion(store: TrackingStore, name: str, alias: str) -> ModelVersion | None:
    """The version that the alias points to; None only where the registry says that there is none.

    Raises:
        UserError: the registry does not answer, so that nobody knows whether there is one.
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
    return UserError(f"name must be one that MLflow's registry takes, got {name!r} ({first_line(error)}); set name=")


def _register(store: TrackingStore, name: str, run_id: str, model: LoggedModel) -> str:
    """The version of this very model, made unless it is there."""
    client = store.client
    try:
        client.create_registered_model(name, description="Tells CelebA's two classes from a picture of one eye.")
    except Exception as error:  # of a database driver or an HTTP library
        if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
            raise (_bad_name(name, error) if is_refused(error) else store.unreadable(name, error)) from error
    source = f"models:/{model.model_id}"
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == source:
            return str(version.version)
    made = client.create_model_version(name, source, run_id=run_id, model_id=model.model_id)
    # By this tag MLflow's page of the model knows its versions.
    versions = [*json.loads(model.tags.get(VERSIONS_TAG, "[]")), {"name": name, "version": str(made.version)}]
    client.set_logged_model_tags(model.model_id, {VERSIONS_TAG: json.dumps(versions)})
    return str(made.version)


def _shortened(card: str, run_id: str) -> str:
    if len(card) <= MOST_DESCRIPTION:
        return card
    rest = f"\n\n… the whole card is {CARD_FILE} of run {run_id}."
    return card[: MOST_DESCRIPTION - len(rest)] + rest
