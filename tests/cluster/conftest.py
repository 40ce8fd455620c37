from collections.abc import Iterator

import pytest

from . import slurm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which this module's own Slurm answers."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with slurm.running(tmp_path_factory.mktemp("slurm")) as env:
        yield env
