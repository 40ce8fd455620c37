"""docs/notebook.ipynb, run in a kernel of its own in an empty folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

NOTEBOOK = Path(__file__).parents[2] / "docs/notebook.ipynb"


def test_the_notebook_runs_from_a_folder_of_pictures_to_a_promoted_model(tmp_path: Path) -> None:
    import nbformat
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class OwnKernel(AsyncKernelManager):
        """This interpreter, whether or not a kernel of the name python3 is installed."""

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # What the process is afterwards: nothing of the calls is left in it.
    code = "import logging, os; print('handlers', len(logging.root.handlers), 'folder', os.getcwd())"
    notebook.cells.append(nbformat.v4.new_code_cell(code))
    client = NotebookClient(
        notebook, timeout=400, kernel_manager_class=OwnKernel, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = ["".join(map(str, cell.get("outputs", []))) for cell in notebook.cells]
    run, history, found, compared, predicted, after = (text for text in shown[3:] if text)
    assert "epoch 4/4" in run
    assert "<table>" in run
    assert "val/accuracy" in history
    assert "trial 2" in found
    assert "3 complete" in found
    assert "comparison.html" in compared
    assert "circles" in predicted
    assert f"folder {tmp_path}" in after
    errors = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    assert errors == []
    champion = json.loads(next(tmp_path.glob("outputs/*/*/run.json")).read_text())
    assert champion["run_id"]
