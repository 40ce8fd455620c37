"""The launcher `hydra/launcher=kubernetes`: it writes a sweep's workers as an Indexed Job, and submits it.

Each worker is a pod that runs the sweep command itself with the basic launcher, as one more worker of the study. So
whatever holds for a command that is killed and started again holds for a pod: it is replaced, and its trial resumes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig

from ._trial import StudyError


class KubernetesLauncher(Launcher):
    """Stands for the choice `kubernetes`; the sweeper `optuna_study` writes the Job itself."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives; nothing of it is needed."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse any other sweeper.

        Raises:
            StudyError: always.
        """
        raise StudyError(
            f"hydra/launcher=kubernetes needs hydra/sweeper=optuna_study, got {len(job_overrides)} jobs of another "
            f"sweeper from number {initial_job_idx} on; choose that sweeper, for example by +sweeps=kubernetes"
        )


@dataclass
class KubernetesLauncherConf:
    """The fields of `hydra.launcher`. No field may hold a password: `secret` names what holds them."""

    _target_: str = "hydra_plugins.optuna_study.kubernetes_launcher.KubernetesLauncher"
    # Image in which the command runs: it contains the program and its packages.
    image: str = MISSING
    # Namespace of the Job; null: that of the cluster's current context.
    namespace: str | None = None
    # Secret of that namespace; each of its entries becomes an environment variable of the workers, such as STUDY_URL.
    secret: str | None = None
    # Further environment variables, {NAME: value}, that are no secrets.
    env: Any = None
    # Resources of each worker: processor cores, GiB of memory and GPUs.
    cpu: float = 4
    memory_gb: float = 16
    gpus: int = 0
    # {NAME of a PersistentVolumeClaim: its path in the worker}; the folder of the sweep must lie in a shared one.
    volumes: Any = None
    # Folder in which the command runs; null: that of the image.
    working_dir: str | None = None
    # Program and arguments in front of the overrides, as a list; null: as this command was started.
    command: Any = None
    # Labels of the nodes that may be used, {label: value}, and a list of Kubernetes tolerations, as of spot nodes.
    node_selector: Any = None
    tolerations: Any = None
    service_account: str | None = None
    priority_class: str | None = None
    # How often a worker that crashed or ran out of memory is started again; preemption and eviction do not count.
    max_restarts: int = 6
    # Seconds between SIGTERM and SIGKILL, in which a worker saves its trial.
    grace_seconds: int = 60
    # Hours after which Kubernetes ends the Job; null for no limit.
    hours: float | None = None
    # Where the manifest is written; null: job.yaml in the folder of the sweep.
    file: str | None = None
    # true submits the Job, false only writes the manifest; null submits it if a cluster is configured here.
    submit: bool | None = None


ConfigStore.instance().store(
    group="hydra/launcher", name="kubernetes", node=KubernetesLauncherConf, provider="optuna_study"
)
