"""The packages that some of Optuna's samplers need and that neither Optuna nor the sweeper requires."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from .._trial import StudyError

_PACKAGES = {"CmaEsSampler": ("cmaes",), "GPSampler": ("torch", "scipy"), "QMCSampler": ("scipy",)}


def check_packages(sampler: Mapping[str, Any]) -> None:
    """Refuse a sampler whose packages are missing: Optuna imports them at its first value, in every trial again.

    Args:
        sampler: `hydra.sweeper.sampler`.

    Raises:
        StudyError: a package is missing; the message names it.
    """
    name = str(sampler.get("_target_", "")).rpartition(".")[2]
    if missing := [package for package in _PACKAGES.get(name, ()) if find_spec(package) is None]:
        packages = " and ".join(missing)
        raise StudyError(
            f"hydra.sweeper.sampler={name} needs the package {packages}, which is not installed; install {packages}, "
            "or choose another hydra/sweeper/sampler"
        )
