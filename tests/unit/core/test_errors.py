"""A full disk and a missing package are reported with what to do about them."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from eyegender.core import errors
from eyegender.core.errors import UserError, install_hint, translate_disk_errors


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail] No space left on device"),
    ],
)
def test_a_full_disk_becomes_a_user_error_whichever_library_reports_it(tmp_path: Path, full: Exception) -> None:
    message = f"weights need 1,000 bytes in {tmp_path}, got a full disk; make room there or elsewhere"
    with pytest.raises(UserError, match=message), translate_disk_errors("weights", tmp_path, 1000, " or elsewhere"):
        raise RuntimeError("cannot save") from full


@pytest.mark.parametrize("other", [OSError(errno.EACCES, "Permission denied"), UserError("n must be 1"), KeyError("x")])
def test_other_errors_are_not_translated(tmp_path: Path, other: Exception) -> None:
    with pytest.raises(type(other)) as caught, translate_disk_errors("weights", tmp_path, 1000):
        raise other
    assert caught.value is other


@pytest.mark.parametrize(
    ("message", "extra"),
    [
        ("In 'hydra/config': Could not find 'hydra/launcher/joblib'; known: basic", "cluster"),
        ("In 'hydra/config': Could not find 'hydra/launcher/submitit_slurm'; known: basic", "cluster"),
        ("In 'hydra/config': Could not find 'hydra/launcher/ray'; known: basic", "ray"),
        ("the sampler optuna.samplers.CmaEsSampler cannot be built: Tried to import 'cmaes' but failed", "cluster"),
        ("PostgreSQL needs a driver; install psycopg2-binary or psycopg", "cluster"),
        ("No module named 'grpc'", "cluster"),
    ],
)
def test_an_error_about_a_missing_package_names_the_extra_that_provides_it(
    monkeypatch: pytest.MonkeyPatch, message: str, extra: str
) -> None:
    monkeypatch.setattr(errors, "_is_missing", lambda _: True)
    assert install_hint(message) == f"; pip install 'eyegender[{extra}]'"


def test_other_messages_name_no_extra() -> None:
    assert install_hint("In 'hydra/config': Could not find 'hydra/launcher/jolib'; known: basic") == ""
    assert install_hint("the callback x cannot be built: no module ray of light was imported") in {
        "",
        "; pip install 'eyegender[ray]'",
    }
    assert install_hint("Grad-CAM needs the package grad-cam; pip install 'eyegender[explain]'") == ""


def test_without_extras_the_error_says_how_to_install_the_joblib_launcher() -> None:
    code = (
        "import sys\n"
        "from hydra.core.config_store import ConfigStore\n"
        "from hydra.core.plugins import Plugins\n"
        "Plugins.instance()\n"
        "del ConfigStore.instance().repo['hydra']['launcher']['joblib.yaml']\n"  # as in a wheel by itself
        "sys.argv = ['eyegender.train', '-m', '+sweeps=finetune', 'hydra/launcher=joblib']\n"
        "import eyegender.train\n"
        "eyegender.train.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith("; pip install 'eyegender[cluster]'")
    assert len(done.stderr.splitlines()) == 1
