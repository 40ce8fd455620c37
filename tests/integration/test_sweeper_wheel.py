"""The sweeper's own wheel: in an environment without torch, Lightning and MLflow, and beside eyegender's wheel."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
LIMIT = 100e6  # bytes
HEAVY = ("torch", "pytorch_lightning", "mlflow", "torchvision", "scipy", "pandas", "eyegender")
STATES = (
    "import sys; from hydra_plugins.optuna_study import load_study;"
    "print(*sorted(t.state.name for t in load_study('sqlite:///studies.db', sys.argv[1]).trials))"
)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(folder: Path, out: Path) -> Path:
    run(UV, "build", "--quiet", "--wheel", "--out-dir", out, folder)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT / "sweeper", tmp_path_factory.mktemp("sweeper"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--python", python, "--constraints", ROOT / "constraints.txt", wheel)
    return python


@pytest.fixture
def parabola(tmp_path: Path) -> Path:
    return shutil.copytree(ROOT / "docs/examples/parabola", tmp_path / "parabola")


def test_it_is_small_and_needs_nothing_heavy(python: Path) -> None:
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    files = [path for path in packages.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < LIMIT
    assert run(python, "-c", f"from importlib.util import find_spec; print(*filter(find_spec, {HEAVY}))").split() == []


def test_the_example_runs_prunes_and_continues(python: Path, parabola: Path) -> None:
    run(python, "minimize.py", cwd=parabola)  # not a sweep
    said = run(python, "minimize.py", "-m", cwd=parabola)
    assert "study 'parabola': " in said
    states = run(python, "-c", STATES, "parabola", cwd=parabola).split()
    assert len(states) == 30
    assert set(states) == {"COMPLETE", "PRUNED"}
    run(python, "minimize.py", "-m", "hydra.sweeper.n_trials=32", cwd=parabola)
    assert len(run(python, "-c", STATES, "parabola", cwd=parabola).split()) == 32


def test_an_interrupted_trial_resumes_from_its_checkpoint(python: Path, parabola: Path) -> None:
    script = parabola / "minimize.py"
    slow = "        import time; time.sleep(0.2)\n        if trial:\n"
    script.write_text(script.read_text().replace("        if trial:\n", slow))
    command = [str(python), "minimize.py", "-m", "hydra.sweeper.n_trials=1", "steps=15", "hydra/sweeper/pruner=nop"]
    process = subprocess.Popen(command, cwd=parabola, stdout=subprocess.PIPE, text=True)
    checkpoint = parabola / "multirun/parabola/0/checkpoint"
    deadline = time.monotonic() + 100
    while not (checkpoint.exists() and checkpoint.read_text().startswith(("5", "6"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGINT
    run(*command, cwd=parabola)
    reports = (
        "from hydra_plugins.optuna_study import study_status;"
        "(row,) = study_status('sqlite:///studies.db', 'parabola').trials;"
        "print(row.attempt, row.state, *row.reported)"
    )
    assert run(python, "-c", reports, cwd=parabola).split() == ["1", "complete", *map(str, range(1, 16))]


def test_both_wheels_hold_the_same_sweeper_and_live_together(
    python: Path, wheel: Path, parabola: Path, tmp_path: Path
) -> None:
    whole = built(ROOT, tmp_path / "whole")

    def contents(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}

    alone, everything = contents(wheel), contents(whole)
    alone.pop("hydra_plugins/optuna_study/LICENSE")
    assert set(alone) == {name for name in everything if name.startswith("hydra_plugins/")}
    assert all(everything[name] == content for name, content in alone.items())
    with zipfile.ZipFile(whole) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    assert all(f"Requires-Dist: {package}" in metadata for package in ("torch", "mlflow", "optuna", "hydra-core"))
    # Without what eyegender requires, which the other tests have: its sweeper must come to no harm.
    run(UV, "pip", "install", "--quiet", "--python", python, "--no-deps", whole)
    try:
        run(python, "minimize.py", "-m", "hydra.sweeper.n_trials=2", cwd=parabola)
        assert "eyegender" in run(python, "-c", "import eyegender; print(eyegender.__name__)", cwd=parabola)
    finally:
        run(UV, "pip", "uninstall", "--quiet", "--python", python, "eyegender")
        run(UV, "pip", "install", "--quiet", "--python", python, "--no-deps", "--reinstall", wheel)
    run(python, "minimize.py", "-m", "hydra.sweeper.n_trials=3", cwd=parabola)
