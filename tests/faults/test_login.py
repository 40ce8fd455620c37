"""MLflow's own server with a login, and one behind a proxy that wants a token: right, wrong and missing ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest
from PIL import Image

import eyegender
from tests import processes
from tests.composing import TINY
from tests.faults.mlflow_server import Proxy, Server
from tests.planted import assert_nowhere
from tests.processes import Command

pytest.importorskip("flask_wtf", reason="flask-wtf, which MLflow's login needs, is not installed")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

USER, PASSWORD, TOKEN = "admin", "c0rrect-horse-b4ttery", "t0ken-of-the-pr0xy"
LOGIN = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
NAMES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI")
REPAIR = "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, to a valid login"
SHORT = (*TINY, "trainer.max_epochs=1", "tracking=server", "tracking.close_timeout=300")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    ini = folder / "auth.ini"
    ini.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = {USER}\n"
        "auth_cache_ttl_seconds = 600\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = {
        "MLFLOW_AUTH_CONFIG_PATH": str(ini), "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-this-test",
    }  # fmt: skip
    server = Server(folder, ("--app-name", "basic-auth"), env)
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _without_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


def log_in(monkeypatch: pytest.MonkeyPatch, **login: str) -> None:
    for name, value in login.items():
        monkeypatch.setenv(name, value)


def succeeds(*arguments: str, cwd: Path) -> str:
    done = processes.run(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert "Tracking is incomplete" not in done.stdout
    return done.stdout


def only_run(url: str) -> mlflow.entities.Run:
    client = mlflow.MlflowClient(url)
    [run] = client.search_runs([client.get_experiment_by_name("eyegender").experiment_id], "params.seed = '7'")
    return run


def test_everything_works_with_the_login_in_the_environment(
    guarded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, **LOGIN)
    where = f"tracking.uri={guarded.url}"
    command = Command("eyegender.train", *SHORT, where, "seed=7", cwd=tmp_path)
    while command.returncode is None:
        assert not [line for line in command_lines() if PASSWORD in line]
        time.sleep(0.2)
    said, _ = command.communicate()
    assert command.returncode == 0, said
    assert "Tracking is incomplete" not in said
    run = only_run(guarded.url)
    assert run.info.status == "FINISHED"
    client = mlflow.MlflowClient(guarded.url)
    assert {"metrics.json", "figures"} <= {item.path for item in client.list_artifacts(run.info.run_id)}
    succeeds("eyegender.compare", where, "output=page", "latency=false", cwd=tmp_path)
    succeeds("eyegender.promote", f"run={run.info.run_id}", where, cwd=tmp_path)
    model = eyegender.load_model("models:/eyegender@champion", {"tracking.uri": guarded.url})
    assert model.run_id == run.info.run_id
    succeeds("eyegender.export_report", f"run={run.info.run_id}", where, "output=shared", cwd=tmp_path)
    assert eyegender.load_model(tmp_path / "shared").spec == model.spec
    assert "finished" in succeeds(
        "eyegender.train", "-m", *SHORT, where, "+sweeps=finetune", "hydra.sweeper.n_trials=2",
        "hydra/launcher=joblib", "hydra.sweeper.n_jobs=2", "hydra.sweeper.plan=false", cwd=tmp_path,
    )  # fmt: skip
    experiment = client.get_experiment_by_name("eyegender").experiment_id
    trials = client.search_runs([experiment], "tags.study.name = 'finetune'")
    assert len([trial for trial in trials if "mlflow.parentRunId" in trial.data.tags]) == 2
    assert_nowhere([PASSWORD], tmp_path, guarded.folder)


def command_lines() -> list[str]:
    """The command line of every process, as anybody on the machine can list them."""
    return [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]


@pytest.mark.parametrize(
    "login",
    [
        {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": "wr0ng-password"},
        {"MLFLOW_TRACKING_USERNAME": USER},
        {},
    ],
    ids=["wrong password", "no password", "no login"],
)
def test_without_a_valid_login_each_command_ends_at_once_in_one_line(
    login: dict[str, str], guarded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, **login)
    where = f"tracking.uri={guarded.url}"
    Image.new("RGB", (32, 32)).save(tmp_path / "eye.png")
    commands = [
        ("eyegender.train", *SHORT, where),
        ("eyegender.train", "-m", *SHORT, where, "+sweeps=finetune"),
        ("eyegender.compare", where, "output=page"),
        ("eyegender.promote", "run=x", where),
        ("eyegender.predict", "model=models:/eyegender@champion", "images=eye.png", where),
        ("eyegender.export_report", "run=x", where, "output=shared"),
    ]
    # One of them is enough to know that the other two logins are no login.
    for command in commands if "MLFLOW_TRACKING_PASSWORD" in login else commands[:1]:
        done = processes.run(*command, cwd=tmp_path)
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.endswith(f"; {REPAIR}\n"), done.stderr
        assert "401" in done.stderr, done.stderr
        assert "wr0ng-password" not in done.stdout + done.stderr
        assert "Train    " not in done.stdout
    assert not list(tmp_path.rglob("tracking.jsonl"))
    assert not list(tmp_path.rglob("optuna.db"))
    assert_nowhere(["wr0ng-password"], tmp_path)


def test_the_check_of_make_ui_says_it_too(guarded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = processes.run("eyegender.tracking.check", guarded.url, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1, f"eyegender: tracking: {guarded.url} must accept the login, got status 401; {REPAIR}\n",
    )  # fmt: skip
    log_in(monkeypatch, **LOGIN)
    assert processes.run("eyegender.tracking.check", guarded.url, cwd=tmp_path).returncode == 0


class TokenProxy(Proxy):
    """Passes on only what has the token, as an authenticating proxy does."""

    def _ask(self, request: bytes) -> bytes:
        if f"authorization: bearer {TOKEN}".encode() in request.lower():
            return super()._ask(request)
        return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def test_a_token_does_the_same(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start()
    with TokenProxy(server.port) as proxy:
        where, experiment = f"tracking.uri={proxy.url}", "tracking.experiment=with-token"
        refused = processes.run("eyegender.train", *SHORT, where, experiment, cwd=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr.endswith(f"got status 401; {REPAIR}\n")
        log_in(monkeypatch, MLFLOW_TRACKING_TOKEN=TOKEN)
        said = succeeds("eyegender.train", *SHORT, where, experiment, cwd=tmp_path)
    assert TOKEN not in said
    client = mlflow.MlflowClient(server.url)
    [run] = client.search_runs([client.get_experiment_by_name("with-token").experiment_id])
    assert run.info.status == "FINISHED"
    assert_nowhere([TOKEN], tmp_path)
