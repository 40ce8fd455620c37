"""The manifest of a Job whose pods are the workers of a study."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .._redaction import PREFIX, is_secret_key, override_without_secrets, redact
from .._trial import StudyError

# Exit statuses of a command that would fail again in the same way: a bug, or a mistake of the user.
_FINAL_STATUSES = [1, 2]
# A pod is named after its Job, with its index and a random suffix; its host name has at most 63 characters.
_LONGEST_NAME = 45
_OWN_KEYS = ("hydra/launcher", "hydra.launcher.", "hydra.sweeper.n_jobs", "hydra.sweeper.wait")


def job_manifest(
    launcher: Mapping[str, Any], *, study_name: str, workers: int, launch_id: str, argv: Sequence[str], main: str | None
) -> dict[str, Any]:
    """The Job as a mapping, of the API version `batch/v1`.

    Args:
        launcher: the fields of `hydra.launcher`.
        study_name: name of the study.
        workers: number of workers, each a pod.
        launch_id: random text that makes the name of the Job unique.
        argv: command line of the sweep.
        main: module that the command runs with `python -m`, if any.

    Raises:
        StudyError: a field is missing or out of its range, or the command line or a field contains a password.
    """
    settings = _checked(launcher)
    labels = {"app.kubernetes.io/name": "optuna-study", "optuna-study/study": _label(study_name)}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": settings["grace_seconds"],
        "containers": [_container(settings, _command(settings, argv, main), _arguments(argv, study_name))],
        "nodeSelector": settings["node_selector"],
        "tolerations": settings["tolerations"],
        "serviceAccountName": settings["service_account"],
        "priorityClassName": settings["priority_class"],
        "volumes": [
            {"name": f"volume-{i}", "persistentVolumeClaim": {"claimName": claim}}
            for i, claim in enumerate(settings["volumes"])
        ],
    }
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": workers,
        "parallelism": workers,
        "backoffLimitPerIndex": settings["max_restarts"],
        "activeDeadlineSeconds": None if settings["hours"] is None else round(3600 * settings["hours"]),
        "podFailurePolicy": {
            "rules": [
                # Spot nodes go away: that is no failure of the worker.
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailIndex",
                    "onExitCodes": {"containerName": "worker", "operator": "In", "values": _FINAL_STATUSES},
                },
            ]
        },
        "template": {"metadata": {"labels": dict(labels)}, "spec": _without_empty(pod)},
    }
    name = _dns_name(study_name, launch_id)
    metadata = {"name": name, "labels": labels, "namespace": settings["namespace"]}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": _without_empty(metadata), "spec": _without_empty(spec),
    }  # fmt: skip


def _checked(given: Mapping[str, Any]) -> Mapping[str, Any]:
    kinds = {"env": dict, "volumes": dict, "node_selector": dict, "tolerations": list, "command": list}
    launcher = {**given, **{name: kind() for name, kind in kinds.items() if given[name] is None}}
    for name, kind in kinds.items():
        if not isinstance(launcher[name], kind):
            what = "a mapping" if kind is dict else "a list"
            raise StudyError(f"hydra.launcher.{name} must be {what}, got {launcher[name]!r}")
    if not launcher["image"]:
        raise StudyError("hydra.launcher.image must name the image in which the workers run, got none; set it")
    least = {"cpu": 0.001, "memory_gb": 0.001, "gpus": 0, "max_restarts": 0, "grace_seconds": 1, "hours": 0.001}
    for name, limit in least.items():
        value = launcher[name]
        if value is not None and not value >= limit:
            raise StudyError(f"hydra.launcher.{name} must be at least {limit}, got {value}")
    for claim, path in launcher["volumes"].items():
        if not str(path).startswith("/"):
            raise StudyError(f"hydra.launcher.volumes must map claims to absolute paths, got {{{claim}: {path}}}")
    for key, value in launcher["env"].items():
        if is_secret_key(str(key)) or redact(str(value)) != str(value) or str(key).startswith(PREFIX):
            raise StudyError(
                f"hydra.launcher.env must hold no secret, got one in {key}; put it into a Kubernetes Secret and name "
                "that in hydra.launcher.secret"
            )
    return launcher


def _command(settings: Mapping[str, Any], argv: Sequence[str], main: str | None) -> list[str]:
    if settings["command"]:
        return [str(word) for word in settings["command"]]
    return ["python", "-m", main] if main else ["python", argv[0]]


def _arguments(argv: Sequence[str], study_name: str) -> list[str]:
    """Those of the command without what concerns the launcher; each pod is one worker of the same study.

    Raises:
        StudyError: one of them contains a password.
    """
    kept = [word for word in argv[1:] if not _key(word).startswith(_OWN_KEYS)]
    for word in kept:
        if override_without_secrets(word) != word or redact(word) != word or PREFIX in word:
            raise StudyError(
                f"the command line of a Job must hold no secret, got one in {_key(word)}; put it into a Kubernetes "
                "Secret, name that in hydra.launcher.secret, and write ${oc.env:VARIABLE}"
            )
    named = [f"hydra.sweeper.study_name={study_name}"] * (not any(_key(w) == "hydra.sweeper.study_name" for w in kept))
    return [*kept, "hydra/launcher=basic", "hydra.sweeper.n_jobs=1", *named]


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _container(settings: Mapping[str, Any], command: Sequence[str], arguments: Sequence[str]) -> dict[str, Any]:
    limits = {"cpu": f"{settings['cpu']:g}", "memory": f"{settings['memory_gb']:g}Gi"}
    if settings["gpus"]:
        limits["nvidia.com/gpu"] = str(settings["gpus"])
    secret = settings["secret"]
    return _without_empty(
        {
            "name": "worker",
            "image": settings["image"],
            "command": list(command),
            "args": list(arguments),
            "workingDir": settings["working_dir"],
            "env": [{"name": str(key), "value": str(value)} for key, value in settings["env"].items()],
            "envFrom": [{"secretRef": {"name": secret}}] if secret else [],
            "resources": {"requests": dict(limits), "limits": limits},
            "volumeMounts": [
                {"name": f"volume-{i}", "mountPath": str(path)} for i, path in enumerate(settings["volumes"].values())
            ],
        }
    )


def _without_empty(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Without fields that are not set; 0 is set."""
    return {key: value for key, value in mapping.items() if value is not None and value not in ("", [], {})}


def _dns_name(study_name: str, launch_id: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", study_name.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    return f"{words or 'study'}-{launch_id[:6]}"


def _label(text: str) -> str:
    """The text as a label's value: at most 63 characters, and only some of them."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:63].strip("-_.") or "study"
