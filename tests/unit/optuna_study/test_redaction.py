import pytest

from hydra_plugins.optuna_study import StudyError
from hydra_plugins.optuna_study._redaction import one_line, passwords_in, redact, redact_override
from hydra_plugins.optuna_study._storage import storage_spec


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:s3cr3t@host/db", "postgresql://me:***@host/db"),
        ("see postgresql+psycopg2://me:p%40ss@h:5432/db now", "see postgresql+psycopg2://me:***@h:5432/db now"),
        ("postgresql://host/db?user=me&password=s3cr3t", "postgresql://host/db?user=me&password=***"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("mailto me@host", "mailto me@host"),
    ],
)
def test_a_password_in_a_url_is_hidden(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("api_key=abc", "api_key=***"),
        ("tracking.token=abc", "tracking.token=***"),
        ("+db.password='x y'", "+db.password=***"),
        ("model.cls_token=true", "model.cls_token=true"),
        ("max_tokens=5", "max_tokens=5"),
        ("keys=5", "keys=5"),
        ("tracking.uri=http://me:pw@host", "tracking.uri=http://me:***@host"),
        ("~data", "~data"),
    ],
)
def test_an_override_is_shown_without_its_secret(override, shown):
    assert redact_override(override) == shown


def test_an_error_is_one_short_line_without_secrets():
    error = RuntimeError("cannot\nreach s3cr3t " + "x" * 900)
    assert one_line(error, ["s3cr3t"]).startswith("RuntimeError: cannot reach *** xxx")
    assert len(one_line(error)) == 500


def test_passwords_are_known_as_written_and_as_decoded():
    assert passwords_in("postgresql://me:p%40ss@h/db") == ("p%40ss", "p@ss")
    assert passwords_in("postgresql://h/db?password=abc") == ("abc",)


def test_a_spec_carries_a_password_in_the_environment_only(monkeypatch):
    spec = storage_spec("postgresql://me:s3cr3t@host/db")
    assert "s3cr3t" not in repr(spec)
    assert spec.url() == "postgresql://me:s3cr3t@host/db"
    monkeypatch.delenv(spec.variable)
    with pytest.raises(StudyError, match=spec.variable):
        spec.url()


def test_relative_files_become_absolute(tmp_path):
    assert storage_spec("sqlite:///a/b.db").shown == f"sqlite:///{tmp_path}/a/b.db"
    assert storage_spec("journal:///x.log").shown == "journal:///x.log"
    assert storage_spec("journal://x.log").path == tmp_path / "x.log"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("study.db", "must be a URL"),
        ("sqlite:///", "storage=null"),
        ("grpc://host", "grpc://host:port"),
        ("redis://host", "redis is not supported as a storage"),
        ({"path": "x"}, "needs _target_"),
    ],
)
def test_what_is_no_storage_is_refused(value, rule):
    with pytest.raises(StudyError, match=rule):
        storage_spec(value)
