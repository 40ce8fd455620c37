"""`hydra/launcher=kubernetes`: the Job is valid, holds no secret, and its pods are workers of one study."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml
from omegaconf import OmegaConf

from hydra_plugins.optuna_study import StudyError, study_status
from hydra_plugins.optuna_study._kubernetes._manifest import job_manifest
from hydra_plugins.optuna_study.kubernetes_launcher import KubernetesLauncher, KubernetesLauncherConf
from tests import processes

from .sweeping import TOY, run

if TYPE_CHECKING:
    from collections.abc import Iterator

LAUNCHER = ("hydra/launcher=kubernetes", "hydra.launcher.image=registry.example/toy:1")
ARGV = (
    "toy.py", "-m", "x=interval(0,1)", "hydra/launcher=kubernetes", "hydra.launcher.image=i", "hydra.sweeper.n_jobs=3",
)  # fmt: skip


def manifest(argv: tuple[str, ...] = ARGV, study_name: str = "toy", **fields: Any) -> dict[str, Any]:
    launcher = OmegaConf.to_container(OmegaConf.structured(KubernetesLauncherConf(image="i")))
    assert isinstance(launcher, dict)
    unknown = fields.keys() - launcher.keys()
    assert not unknown
    found = job_manifest(
        {**launcher, **fields},
        study_name=study_name,
        workers=3,
        launch_id="abcdef0123",
        argv=argv,
        main="eyegender.train",
    )
    for version in ("1.31", "1.33"):
        kubernetes_validate.validate(found, version, strict=True)
    return found


def worker(found: dict[str, Any]) -> dict[str, Any]:
    [container] = found["spec"]["template"]["spec"]["containers"]
    return dict(container)


# ---- the manifest


def test_it_is_valid_with_every_field_and_with_none() -> None:
    few = manifest()
    assert few["spec"]["completions"] == few["spec"]["parallelism"] == 3
    assert few["spec"]["completionMode"] == "Indexed"
    many = manifest(
        namespace="team", secret="study", env={"OMP_NUM_THREADS": 4}, cpu=0.5, memory_gb=1.5, gpus=2,
        volumes={"shared": "/work", "data": "/data"}, working_dir="/work", node_selector={"pool": "spot"},
        tolerations=[{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}], service_account="s",
        priority_class="low", max_restarts=0, grace_seconds=90, hours=1.5,
    )  # fmt: skip
    assert many["metadata"]["namespace"] == "team"
    assert many["spec"]["activeDeadlineSeconds"] == 5400
    assert many["spec"]["backoffLimitPerIndex"] == 0
    container = worker(many)
    assert container["resources"]["limits"] == {"cpu": "0.5", "memory": "1.5Gi", "nvidia.com/gpu": "2"}
    assert container["envFrom"] == [{"secretRef": {"name": "study"}}]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/work", "/data"]


def test_preemption_is_no_failure_and_a_mistake_is_not_repeated() -> None:
    ignore, fail = manifest()["spec"]["podFailurePolicy"]["rules"]
    assert (ignore["action"], ignore["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (fail["action"], fail["onExitCodes"]["values"]) == ("FailIndex", [1, 2])


def test_each_pod_runs_the_command_as_one_worker_of_the_same_study() -> None:
    container = worker(manifest(study_name="mine"))
    assert container["command"] == ["python", "-m", "eyegender.train"]
    assert container["args"] == [
        "-m", "x=interval(0,1)", "hydra/launcher=basic", "hydra.sweeper.n_jobs=1", "hydra.sweeper.study_name=mine",
    ]  # fmt: skip
    assert worker(manifest(command=["run", "me"]))["command"] == ["run", "me"]


@pytest.mark.parametrize("name", ["Größe 7", "___", "a" * 200, "x_y.z", "-Study-"])
def test_any_name_of_a_study_gives_a_valid_job(name: str) -> None:
    first = manifest(study_name=name)
    assert len(first["metadata"]["name"]) <= 52


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": None}, r"hydra.launcher.image must name the image"),
        ({"cpu": 0}, r"hydra.launcher.cpu must be at least 0.001, got 0"),
        ({"grace_seconds": 0}, r"hydra.launcher.grace_seconds must be at least 1, got 0"),
        ({"volumes": {"shared": "work"}}, r"hydra.launcher.volumes must map claims to absolute paths"),
        ({"volumes": ["shared"]}, r"hydra.launcher.volumes must be a mapping"),
        ({"tolerations": {"a": 1}}, r"hydra.launcher.tolerations must be a list"),
        ({"env": {"DB_PASSWORD": "abcdef"}}, r"must hold no secret, got one in DB_PASSWORD"),
        ({"env": {"URL": "postgresql://u:abcdef@h/d"}}, r"must hold no secret, got one in URL"),
    ],
)
def test_mistakes_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message) as found:
        manifest(**fields)
    assert "abcdef" not in str(found.value)


@pytest.mark.parametrize(
    "word",
    [
        "hydra.sweeper.storage=postgresql://u:hunter22@h/d", "+db.password=hunter22",
        "tracking.uri=http://u:hunter22@h", "'hydra.sweeper.storage=postgresql://u:hunter22@h/d'",
    ],
)  # fmt: skip
def test_a_password_on_the_command_line_is_refused_and_not_shown(word: str) -> None:
    with pytest.raises(StudyError, match=r"must hold no secret") as found:
        manifest((*ARGV, word))
    assert "hunter22" not in str(found.value)
    assert "${oc.env:STUDY_URL}" in worker(manifest((*ARGV, "hydra.sweeper.storage=${oc.env:STUDY_URL}")))["args"][2]


# ---- the command


SWEEP = ("mode=ok", "x=interval(-5,5)", "y=choice(1,2)", "hydra.sweeper.n_trials=9", "hydra.sweeper.study_name=toy")


def test_the_command_writes_a_job_without_secrets_and_opens_no_study(tmp_path: Path) -> None:
    env = {"STUDY_URL": "postgresql://u:hunter22@nowhere.invalid/optuna", "KUBECONFIG": str(tmp_path / "none")}
    done = run(
        *SWEEP, *LAUNCHER, "hydra.sweeper.storage=${oc.env:STUDY_URL}", "hydra.launcher.secret=study",
        f"hydra.sweep.dir={tmp_path}/sweep", env=env,
    )  # fmt: skip
    assert "kubectl create -f" in done.stdout
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in written] == ["job.yaml"]
    for text in (done.stdout, done.stderr, written[0].read_text()):
        assert "hunter22" not in text
    assert "hydra.sweeper.storage=${oc.env:STUDY_URL}" in worker(yaml.safe_load(written[0].read_text()))["args"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("hydra.sweeper.storage=sqlite:///study.db",), "hydra.sweeper.storage must be one that all pods reach"),
        (("hydra.sweeper.storage=journal://s.log", "hydra.launcher.file=/proc/no/job.yaml"), "must be a file that can"),
        (
            ("hydra.sweeper.storage=journal://s.log", "hydra.launcher.submit=true"),
            "needs a configured cluster, got none",
        ),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    done = run(*SWEEP, *LAUNCHER, *overrides, env={"KUBECONFIG": str(tmp_path / "none")}, check=None)
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_another_sweeper_is_refused() -> None:
    with pytest.raises(StudyError, match=r"needs hydra/sweeper=optuna_study, got 2 jobs of another sweeper"):
        KubernetesLauncher(image="i").launch([["x=1"], ["x=2"]], initial_job_idx=0)


@pytest.mark.integration
def test_the_pods_of_a_job_share_one_study_and_keep_its_number_of_trials(tmp_path: Path) -> None:
    storage = f"journal://{tmp_path}/study.log"
    run(
        *SWEEP, *LAUNCHER, f"hydra.sweeper.storage={storage}", f"hydra.sweep.dir={tmp_path}/sweep",
        "hydra.sweeper.n_jobs=2", env={"KUBECONFIG": str(tmp_path / "none")},
    )  # fmt: skip
    job = yaml.safe_load((tmp_path / "sweep/job.yaml").read_text())
    arguments = worker(job)["args"]
    pods = [processes.Command(str(TOY), *arguments) for _ in range(job["spec"]["completions"])]
    for pod in pods:
        pod.communicate(200)
        assert pod.returncode == 0
    counts = study_status(storage, "toy").counts
    assert (counts.finished, counts.failed) == (9, 0)


# ---- a cluster


class Cluster:
    """An API server that takes Jobs, or refuses them."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.status, self.message = 201, ""
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                cluster.requests.append((self.path, body))
                reply = body if cluster.status == 201 else {"kind": "Status", "message": cluster.message}
                self.send_response(cluster.status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(reply).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Cluster, dict[str, str]]]:
    found = Cluster()
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{found.server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team"}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    yield found, {"KUBECONFIG": str(tmp_path / "kubeconfig"), "NO_PROXY": "127.0.0.1"}
    found.server.shutdown()
    found.server.server_close()


def test_a_configured_cluster_gets_the_job(tmp_path: Path, cluster: tuple[Cluster, dict[str, str]]) -> None:
    api, env = cluster
    done = run(*SWEEP, *LAUNCHER, "hydra.sweeper.storage=journal://s.log", f"hydra.sweep.dir={tmp_path}/sweep", env=env)
    [(path, body)] = api.requests
    assert path.partition("?")[0] == "/apis/batch/v1/namespaces/team/jobs"
    assert body == yaml.safe_load((tmp_path / "sweep/job.yaml").read_text())
    assert "submitted; its output: kubectl logs" in done.stdout


def test_a_cluster_that_refuses_is_quoted_and_one_that_is_away_is_named(
    tmp_path: Path, cluster: tuple[Cluster, dict[str, str]]
) -> None:
    api, env = cluster
    api.status, api.message = 403, 'jobs.batch is forbidden: User "u" cannot create resource'
    arguments = (*SWEEP, *LAUNCHER, "hydra.sweeper.storage=journal://s.log", f"hydra.sweep.dir={tmp_path}/sweep")
    done = run(*arguments, env=env, check=None)
    assert done.returncode != 0
    assert "the cluster must take the Job, got 403: jobs.batch is forbidden" in done.stderr
    assert "Traceback" not in done.stderr
    run(*arguments, "hydra.launcher.submit=false", env=env)
    assert len(api.requests) == 1
