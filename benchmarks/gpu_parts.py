"""The process that measures for `benchmarks.gpu`; it writes one JSON object per line to a pipe.

Its arguments are the number of the pipe, a folder, the parts and the options of benchmarks.gpu as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import gpu_gaps, gpu_store, gpu_sweep, gpu_training
from benchmarks.gpu_images import eyes
from benchmarks.gpu_sizes import FULL, SMALL, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Each yields ("table", title, header), ("row", cells) and ("note", text).
PARTS: dict[str, Callable[[Sizes, Path], Iterator[tuple]]] = {
    "training": gpu_training.training,
    "gaps": gpu_gaps.gaps,
    "plain": gpu_training.plain_stack,
    "precision": gpu_training.precisions,
    "store": gpu_store.store,
    "sweep": gpu_sweep.sweep,
    "compile": gpu_training.compiled,
}


def machine() -> str:
    """GPU, driver, processor and versions, in one line."""
    from benchmarks.measuring import machine as processor

    if not torch.cuda.is_available():
        return processor()
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    driver = "unknown"
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        pass
    libraries = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{torch.cuda.get_device_name()} ({memory:.0f} GiB, driver {driver}, {libraries}); {processor()}"


def main() -> None:
    pipe, folder, parts, options = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","), json.loads(sys.argv[4])
    os.set_inheritable(pipe, False)  # a process that outlives this one must not keep it open
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "HYDRA_FULL_ERROR"):
        os.environ.pop(name, None)
    os.chdir(folder)

    def send(**message: Any) -> None:
        os.write(pipe, (json.dumps(message) + "\n").encode())

    gpu = torch.cuda.is_available()
    full = options["size"] == "full" or (options["size"] == "auto" and gpu)
    sizes = FULL if full else SMALL
    images = min(int(options["images"]), sizes.images) if not full else int(options["images"])
    send(machine=machine(), gpu=gpu)
    print(f"Python {platform.python_version()}, torch {torch.__version__}", flush=True)
    if set(parts) - {"precision", "compile"}:
        eyes(folder, images)
    for part in parts:
        send(begin=part)
        try:
            for kind, *content in PARTS[part](sizes, folder):
                if kind == "table":
                    send(table=content[0], row=list(content[1]))
                elif kind == "row":
                    send(row=list(content[0]))
                else:
                    send(note=content[0])
        except Exception as error:  # any failure of a part must leave the others their time
            import traceback

            traceback.print_exc()
            send(error=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}")
            return
        send(done=part)
        gc.collect()
        if gpu:
            torch.cuda.empty_cache()
