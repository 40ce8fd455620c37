"""The local store in folders of any name, moved, copied, damaged, and of other versions of MLflow."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import OperationalError

from eyegender.core.errors import UserError
from eyegender.tracking.check import check_store
from eyegender.tracking.client import connect
from eyegender.tracking.errors import StoreFaultError, repair_of
from eyegender.tracking.local_store import open_database
from eyegender.tracking.location import Location, artifacts_beside, database_file, find_location
from eyegender.tracking.writer import RunWriter
from hydra_plugins.optuna_study._storage import storage_spec
from tests.stores import give_store

ODD = (
    "a?b", "a#b", "a%b", "a%20b", "100%", "a b", "a'b", 'a"b', "$x", "a$HOME", "äö 目", "a&b=c", "a+b", "a@b:c",
    "a;b,c", "a\\b", "[a]*", "{a}", "~a!", "-a?#%20'\" $x é",
)  # fmt: skip


def with_run(location: Location, folder: Path, text: str = "hello") -> str:
    """The id of a run with one artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "note.txt").write_text(text)
    writer = RunWriter(location.uri, location.artifacts, folder)
    writer.apply({"op": "run", "key": "k", "experiment": "eyegender", "name": "n", "tags": {}, "time": 1})
    writer.apply({"op": "artifact", "path": "note.txt", "to": None})
    assert writer.run_id is not None
    return writer.run_id


def note(location: Location, run_id: str, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    client = connect(location.uri)
    return Path(client.download_artifacts(run_id, "note.txt", str(folder))).read_text()


@pytest.mark.parametrize("name", ODD)
def test_databases_work_in_folders_of_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    give_store(folder / "mlruns")
    location = find_location(None)
    assert location.database == folder / "mlruns" / "mlflow.db"
    run_id = with_run(location, folder / "run")
    assert note(location, run_id, tmp_path / "read") == "hello"
    optuna = storage_spec("sqlite:///mlruns/optuna.db")
    assert optuna.path == folder / "mlruns" / "optuna.db"
    # And nothing anywhere else.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "read"])
    assert {path.name for path in folder.iterdir()} == {"mlruns", "run"}


def test_a_new_store_is_created_in_its_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a?b'#%20"
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    location = find_location(None)
    client = connect(location.uri)
    [default] = client.search_experiments()
    assert default.artifact_location == f"{location.artifacts}/0"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in Path("mlruns").iterdir()} == {"mlflow.db", "mlflow.lock"}


def test_optunas_database_is_created_at_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    folder = tmp_path / ODD[-1]
    folder.mkdir()
    monkeypatch.chdir(folder)
    optuna.create_study(study_name="s", storage=storage_spec("sqlite:///optuna.db").url())
    assert [path.name for path in folder.iterdir()] == ["optuna.db"]


def test_a_moved_store_works_and_its_old_folder_is_not_created_again(location: Location, tmp_path: Path) -> None:
    run_id = with_run(location, tmp_path / "project" / "run")
    (tmp_path / "project").rename(tmp_path / "new ?folder")
    moved = find_location(None, str(tmp_path / "new ?folder" / "mlruns"))
    assert note(moved, run_id, tmp_path / "read") == "hello"
    client = connect(moved.uri)
    assert client.get_experiment_by_name("eyegender").artifact_location == moved.artifacts
    assert client.get_run(run_id).info.artifact_uri.startswith(f"{moved.artifacts}/")
    other = with_run(moved, tmp_path / "new ?folder" / "other", "again")
    assert note(moved, other, tmp_path / "read") == "again"
    assert not (tmp_path / "project").exists()


def test_a_store_that_is_moved_during_a_run_is_not_created_again(location: Location, tmp_path: Path) -> None:
    run_id = with_run(location, tmp_path / "project" / "run")
    writer = RunWriter(location.uri, location.artifacts, tmp_path / "new" / "run")
    writer.run_id = run_id
    _ = writer.client
    (tmp_path / "project").rename(tmp_path / "new")
    with pytest.raises(sqlite3.OperationalError):  # the sender tries again later, and sync finds the new folder
        writer.apply({"op": "artifact", "path": "note.txt", "to": None})
    assert not (tmp_path / "project").exists()


def test_a_copied_store_does_not_change_the_original(location: Location, tmp_path: Path) -> None:
    run_id = with_run(location, tmp_path / "project" / "run")
    shutil.copytree(tmp_path / "project" / "mlruns", tmp_path / "copy")
    copied = find_location(None, str(tmp_path / "copy"))
    (tmp_path / "copy" / "artifacts" / run_id / "artifacts" / "note.txt").write_text("of the copy")
    assert note(copied, run_id, tmp_path / "read") == "of the copy"
    assert note(location, run_id, tmp_path / "read") == "hello"
    with_run(copied, tmp_path / "more")
    assert len(list((tmp_path / "project" / "mlruns" / "artifacts").iterdir())) == 1


def test_addresses_of_models_and_versions_are_corrected_too(location: Location, tmp_path: Path) -> None:
    run_id = with_run(location, tmp_path / "project" / "run")
    client = connect(location.uri)
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    client.log_model_artifact(model.model_id, str(tmp_path / "project" / "run" / "note.txt"))
    client.create_registered_model("eyes")
    client.create_model_version("eyes", model.artifact_location, run_id=run_id)
    (tmp_path / "project").rename(tmp_path / "moved")
    moved = find_location(None, str(tmp_path / "moved" / "mlruns"))
    client = connect(moved.uri)
    assert [item.path for item in client.list_logged_model_artifacts(model.model_id)] == ["note.txt"]
    version = client.get_model_version("eyes", "1")
    assert version.source.startswith(f"{moved.artifacts}/")
    assert client.get_model_version_download_uri("eyes", "1").startswith(f"{moved.artifacts}/")


def test_addresses_of_files_that_were_not_moved_stay(location: Location, tmp_path: Path) -> None:
    run_id = with_run(location, tmp_path / "project" / "run")
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "project" / "mlruns" / "mlflow.db", tmp_path / "copy")
    copied = find_location(None, str(tmp_path / "copy"))
    assert note(copied, run_id, tmp_path / "read") == "hello"  # artifacts/ was not copied
    client = connect(copied.uri)
    assert client.get_experiment_by_name("eyegender").artifact_location == copied.artifacts


def test_a_chosen_folder_of_artifacts_stays(location: Location, tmp_path: Path) -> None:
    artifacts = (tmp_path / "bulk" / "artifacts").as_uri()
    (tmp_path / "bulk").mkdir()
    connect(location.uri).create_experiment("big", artifacts)
    client = connect(location.uri)
    assert client.get_experiment_by_name("big").artifact_location == artifacts


def test_a_store_has_the_same_address_through_a_link(location: Location, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "project" / "mlruns")
    assert find_location(None, str(tmp_path / "link")) == location


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribbled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 2 * 4096] = os.urandom(4096)
    path.write_bytes(data)


def without_tables(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")


def at_revision(revision: str | None) -> object:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM alembic_version")
            if revision is not None:
                connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
            connection.commit()

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: path.write_bytes(b"no database" * 1000),
            r"intact database, got a damaged .*; restore a",
        ),
        (truncated, "intact database, got a damaged one"),
        (scribbled, "intact database, got a damaged one"),
        (lambda path: path.write_bytes(b""), r"MLflow's tables, got an empty database; restore a backup, or remove"),
        (without_tables, "MLflow's tables, got one without them"),
        (at_revision(None), "MLflow's tables"),
        (
            at_revision("451aebb31d03"),
            r"schema \w+, got 451aebb31d03 of an older version of MLflow; .*db upgrade",
        ),
        (at_revision("ffffffffffff"), r"got ffffffffffff of a version newer than MLflow 3\.\S+; install"),
    ],
)
def test_permanent_faults_are_reported_before_training(location: Location, damage: object, message: str) -> None:
    assert location.database is not None
    damage(location.database)  # type: ignore[operator]
    before = location.database.read_bytes()
    with pytest.raises(StoreFaultError, match=message) as caught:
        check_store(location)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreFaultError):  # the sender and the other commands, which come later
        _ = connect(location.uri)
    assert location.database.read_bytes() == before


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:///folder", r"must be the address of a store, got a folder; set tracking.uri to"),
        ("sqlite:///file/mlflow.db", r"got a folder that cannot be created \(\S+file is a file\)"),
        ("sqlite://", "got a database in memory"),
        ("sqlite:///:memory:", "got a database in memory"),
        ("sqlite+abacus:///mlflow.db", r"cannot be opened here \(Can't load plugin"),
        ("postgresql+abacus://u:canary@h/db", r"postgresql\+abacus://u:\*\*\*@h/db .*cannot be opened here"),
        ("http://", "got no host"),
        ("http://[::1", "got none"),
        ("htp://host:5000", "one that MLflow refuses"),
        ("mlruns", "one that MLflow refuses"),
        ("file:///tmp/mlruns", "one that MLflow refuses"),
    ],
)
def test_invalid_addresses_are_reported_before_training(tmp_path: Path, uri: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(StoreFaultError, match=message) as caught:
        check_store(find_location(uri))
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        'FATAL:  password authentication failed for user "u"',
        'FATAL:  database "runs" does not exist',
        "(1045, \"Access denied for user 'u'@'h'\")",
        "attempt to write a readonly database",
    ],
)
def test_a_refused_database_login_must_be_repaired(message: str) -> None:
    assert repair_of(OperationalError("SELECT 1", {}, Exception(message))) is not None
    assert repair_of(OperationalError("SELECT 1", {}, Exception("connection refused"))) is None


def test_checking_a_store_changes_nothing(location: Location, tmp_path: Path) -> None:
    check_store(location)
    nowhere = find_location(None, str(tmp_path / "nowhere" / "mlruns"))
    check_store(nowhere)
    assert not (tmp_path / "nowhere").exists()


def test_checking_a_store_prints_nothing(location: Location) -> None:
    code = (
        "import logging, pathlib, sys; logging.basicConfig(level=logging.INFO);"
        "from eyegender.tracking.local_store import check_database; check_database(pathlib.Path(sys.argv[1]))"
    )
    look = subprocess.run(
        [sys.executable, "-c", code, str(location.database)], capture_output=True, text=True, check=True
    )
    assert look.stdout + look.stderr == ""


def test_an_incomplete_store_is_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mlruns"
    folder.mkdir()
    (folder / "mlflow.db.new-1").write_bytes(b"half")  # of a process that was killed

    def fill(self: SqlAlchemyStore, uri: str, _: str) -> None:
        store_file = database_file(uri)
        assert store_file is not None
        store_file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "__init__", fill)
        with pytest.raises(OSError, match="No space"), open_database(folder / "mlflow.db"):
            pass
    assert {path.name for path in folder.iterdir()} == {"mlflow.lock"}


def test_artifacts_are_beside_the_database(tmp_path: Path) -> None:
    location = find_location(f"sqlite:///{tmp_path}/x.db")
    assert location.artifacts == (tmp_path / "artifacts").as_uri() == artifacts_beside(tmp_path / "x.db")
    assert find_location("http://server").artifacts is None
    assert database_file("postgresql:///x") is None
    assert database_file("sqlite:///:memory:") is None
