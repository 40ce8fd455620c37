"""Writes the Job of a sweep, and submits it if a cluster is configured."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf

from .._monitoring._lines import print_line
from .._redaction import one_line
from .._trial import StudyError
from ._manifest import job_manifest

if TYPE_CHECKING:
    from .._launch import WorkerSpec

_PACKAGE = "pip install kubernetes"


def is_kubernetes(config: DictConfig) -> bool:
    return str(config.hydra.launcher._target_).endswith(".KubernetesLauncher")


def submit_job(config: DictConfig, spec: "WorkerSpec") -> None:
    """Write the manifest and, unless the settings say no, submit it; the study is opened by the workers alone.

    Raises:
        StudyError: a field is out of its range, the file cannot be written, or the cluster does not take the Job.
    """
    if spec.settings.storage.kind in ("memory", "sqlite"):
        raise StudyError(
            f"hydra.sweeper.storage must be one that all pods reach, got {spec.settings.storage.shown}; use "
            "postgresql://HOST/NAME, grpc://HOST:PORT, or a journal file in a shared volume"
        )
    launcher = OmegaConf.to_container(config.hydra.launcher, resolve=True, throw_on_missing=False)
    assert isinstance(launcher, dict)
    fields = {str(key): None if value == "???" else value for key, value in launcher.items()}
    manifest = job_manifest(
        fields, study_name=spec.study_name, workers=spec.settings.n_jobs, launch_id=spec.launch_id, argv=spec.argv,
        main=spec.main,
    )  # fmt: skip
    path = Path(fields["file"] or Path(spec.sweep_dir) / "job.yaml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise StudyError(
            f"hydra.launcher.file must be a file that can be written, got {path} ({error.strerror})"
        ) from None
    name, workers = manifest["metadata"]["name"], spec.settings.n_jobs
    print_line(f"job {name}: {workers} worker(s), written to {path}")
    if fields["submit"] is not False and _submitted(manifest, required=fields["submit"] is True):
        print_line(f"submitted; its output: kubectl logs --follow --prefix --selector=job-name={name}")
    else:
        print_line(f"not submitted; to do so: kubectl create -f {shlex.quote(str(path))}")


def _submitted(manifest: dict[str, Any], *, required: bool) -> bool:
    """Submit the Job with the official client, to the cluster of the current context or of this pod.

    Returns:
        False if no cluster is configured and none is required.

    Raises:
        StudyError: the cluster cannot be reached or refuses the Job; or there is none, although it is required.
    """
    try:
        from kubernetes import client, config
    except ImportError:
        if required:
            raise StudyError(f"hydra.launcher.submit=true needs the package kubernetes, got none; {_PACKAGE}") from None
        return False
    load: Any = config.load_config  # it has no types, and the client takes a mapping for any of its classes
    api: Any = client.BatchV1Api
    try:
        load()
    except config.ConfigException as error:
        if required:
            raise StudyError(
                f"hydra.launcher.submit=true needs a configured cluster, got none ({one_line(error)}); set KUBECONFIG, "
                "or remove it to write the manifest only"
            ) from None
        return False
    namespace = manifest["metadata"].get("namespace") or _current_namespace(config)
    try:
        api().create_namespaced_job(namespace, manifest)
    except client.ApiException as error:
        raise StudyError(f"the cluster must take the Job, got {error.status}: {_reason(error)}") from None
    except Exception as error:  # of urllib3: the server does not respond
        raise StudyError(f"the cluster must be reachable, got {one_line(error)}") from None
    return True


def _current_namespace(config: Any) -> str:
    try:
        return str(config.list_kube_config_contexts()[1]["context"].get("namespace") or "default")
    except config.ConfigException:  # inside of a pod
        path = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
        return path.read_text(encoding="utf-8").strip() if path.exists() else "default"


def _reason(error: Any) -> str:
    """What the cluster says about a Job that it refuses."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
