"""docs/pictures.md, typed by somebody who has a wheel and a folder with three folders of pictures."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from tests.integration.test_serve import free_port
from tests.integration.test_sweeper_wheel import UV, built, run

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/pictures.md").read_text()
LINES = [
    line.removeprefix("$ ")
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
COLORS = {"apples": (200, 40, 40), "bananas": (220, 200, 60), "grapes": (90, 50, 150)}
OF_EYES = re.compile(r"\b((fe)?males?|eyes?|gender|persons?)\b", re.IGNORECASE)
# Only to be quick: small pictures, no download, few epochs.
QUICK = " data.size=32 model.weights=null trainer=cpu trainer.max_epochs=5 trainer.batch_size=16"
# As an installer writes it for a package that is installed here.
SCRIPT = """#!{python}
import sys
from importlib.metadata import entry_points
from pathlib import Path

entry, *_ = entry_points(group="console_scripts", name=Path(sys.argv[0]).name)
sys.exit(entry.load()())
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a shell in which a new virtual environment with the wheel is active.

    The packages that the wheel requires are borrowed from the tests' own environment, but not eyegender itself.
    """
    venv = tmp_path / "venv"
    run(UV, "venv", "--quiet", "--python", sys.executable, venv)
    run(UV, "pip", "install", "--quiet", "--no-deps", "--python", venv / "bin/python", built(ROOT, tmp_path / "dist"))
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")) + "\n")
    for name in ("mlflow", "uvicorn"):
        (venv / "bin" / name).write_text(SCRIPT.format(python=venv / "bin/python"))
        (venv / "bin" / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**inherited, "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(venv)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder but for pictures of three colors, numbered as a camera does."""
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (tmp_path / "work/pictures" / name).mkdir(parents=True)
        for number in range(1, 25):
            pixels = rng.integers(0, 120, (48, 64, 3))
            top, left = rng.integers(0, 16, 2)
            pixels[top : top + 32, left : left + 40] = np.array(color) + rng.integers(-40, 35, 3)
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(tmp_path / "work/pictures" / name / f"{number:03d}.jpg")
    return tmp_path / "work"


class Shell:
    """Runs lines one by one; variables that a line exports are there in the next ones."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment, self.exports = folder, environment, ""

    def start(self, line: str) -> subprocess.Popen[str]:
        if line.startswith("export "):
            self.exports += f"{line}\n"
        return subprocess.Popen(
            ["bash", "-c", self.exports + line], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def type(self, line: str) -> str:
        process = self.start(line)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, f"$ {line}\n{said}"
        assert "Traceback" not in said
        return said


def test_the_page_from_a_folder_to_an_answer_over_http(folder: Path, environment: dict[str, str]) -> None:
    shell, port = Shell(folder, environment), str(free_port())
    trained: list[str] = []
    lines = [line.replace("5000", port) for line in LINES]
    serving = next(i for i, line in enumerate(lines) if line.startswith("mlflow models serve "))
    commands = [line.split()[1] for line in lines[:serving] if line.startswith("eyegender ")]
    assert commands == ["train", "train", "compare", "promote", "predict"]
    said = {}
    for line in lines[:serving]:
        train = line.startswith("eyegender train ")
        typed = line.replace("run=ID", f"run={trained[-1]}") if "run=ID" in line else line
        said[line] = shell.type(typed + QUICK if train else typed)
        if train:
            trained += re.findall(r"^Run +(\w{32}) in ", said[line], re.MULTILINE)

    # Trained at the first attempt, logged and described.
    metrics = [json.loads(path.read_text()) for path in sorted(folder.glob("outputs/*/*/metrics.json"))]
    assert ["test/accuracy" in each["metrics"] for each in metrics] == [True, True]
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns/mlflow.db'}")
    runs = [client.get_run(run_id) for run_id in trained]
    assert [one.info.status for one in runs] == ["FINISHED"] * 2
    assert [one.data.tags["data.source"] for one in runs] == ["folder"] * 2
    assert runs[1].data.metrics["test/accuracy"] > 0.5
    # Compared, registered with a card, used.
    (page,) = folder.glob("outputs/*/*-compare/comparison.md")
    assert {"mobilenet_v2", "resnet18", *COLORS} <= set(re.findall(r"\w+", page.read_text()))
    version = client.get_model_version_by_alias("fruit", "champion")
    assert version.run_id == trained[1]
    assert "*apples*, *bananas* or *grapes*" in version.description
    (table,) = folder.glob("outputs/*/*-predict/predictions.csv")
    with table.open() as file:
        row = next(row for row in csv.DictReader(file) if row["path"].endswith("001.jpg"))
    # Nothing is of eyes or persons on the way.
    for text in (*said.values(), page.read_text(), version.description):
        assert not OF_EYES.search(text.replace("eyegender", "")), text
    predicted = [float(row[f"probability: {name}"]) for name in COLORS]

    server = shell.start(lines[serving])
    try:
        until = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, server.communicate()[0]
                assert time.monotonic() < until
                time.sleep(0.3)
        *before, ask = lines[serving + 1 :]
        for line in before:
            shell.type(line)
        answer = re.search(r"\{.*\}", shell.type(ask))
        assert answer is not None
        assert json.loads(answer[0])["predictions"][0] == pytest.approx(predicted, abs=1e-5)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=60)
