"""Images decoded into the PixelStore per core, against a bare decode-and-resize loop, and the memory of reading it.

Run: python -m benchmarks.ingest [--eyes=FOLDER] [--images 2000] [--stored 400000] [--write]
Both run on one core, each in a process of its own, from files in the page cache; imports are not counted. Without
--eyes, the images are synthetic, at 96 pixels. The bare loop opens, converts to gray and resizes with Pillow, and
stores nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.image_folders import class_folders
from benchmarks.measuring import alternate, environment, ratios, report, spread, table

CELEBA = 202_599
BARE = """
import os, sys, time
from pathlib import Path
import numpy as np
from PIL import Image
os.sched_setaffinity(0, {0})
paths = sorted(path for path in Path(sys.argv[1]).rglob("*") if path.is_file())
began = time.perf_counter()
for path in paths:
    with Image.open(path) as image:
        np.asarray(image.convert("L").resize((224, 224), Image.Resampling.BICUBIC))
print(time.perf_counter() - began)
"""
OURS = """
import os, sys, time
from eyegender.data.folder import FolderReader
from eyegender.data.pixel_cache import open_pixel_store
os.sched_setaffinity(0, {0})
began = time.perf_counter()
samples = FolderReader(sys.argv[1], ["femaleeyes", "maleeyes"]).read()
open_pixel_store(samples, 224, "gray", sys.argv[2])
print(time.perf_counter() - began)
"""
MEMORY = """
import hashlib, resource, sys
import numpy as np
from PIL import Image
from eyegender.data.loader import BatchLoader
from eyegender.data.pixel_cache import open_pixel_store
from eyegender.data.readers import Samples
n = int(sys.argv[1])
digests = tuple(hashlib.sha256(str(i).encode()).hexdigest() for i in range(n))
labels = np.arange(n, dtype=np.uint8) % 2
samples = Samples("synthetic", tuple(map(str, range(n))), labels, digests, lambda i: Image.new("L", (64, 64), i % 255))
store = open_pixel_store(samples, 64, "gray", sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for batch in BatchLoader(store, store.rows(digests), labels, np.arange(n), 64, shuffle=True):
    pass
print(np.prod(store.shape) / 1e6, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000)
"""


def told_by(script: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--eyes", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--stored", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = str(class_folders(Path(name) / "eyes", options.images, options.eyes) / "images")
        caches = iter(range(1000))
        taken = alternate(
            {
                "bare loop": lambda: told_by(BARE, root)[0],
                "PixelStore": lambda: told_by(OURS, root, f"{name}/cache{next(caches)}")[0],
            },
            options.rounds,
        )
        megabytes, grown = told_by(MEMORY, str(options.stored), f"{name}/memory")
    rows = [("way", "images per second and core", "this / bare loop", f"CelebA on {os.cpu_count()} cores, minutes")]
    for way, values in taken.items():
        speeds = [options.images / value for value in values]
        minutes = [CELEBA / speed / (os.cpu_count() or 1) / 60 for speed in speeds]
        rows.append((way, spread(speeds, 0), spread(ratios(taken["bare loop"], values)), spread(minutes, 1)))
    text = (
        f"{options.images} {'real' if options.eyes else 'synthetic'} images to 224 pixels, gray. The times for "
        f"CelebA's {CELEBA:,} images are extrapolated.\n\n{table(rows)}\n\nOne shuffled epoch over a store of "
        f"{options.stored:,} images ({megabytes:,.0f} MB) raised the peak resident memory by {grown:,.0f} MB."
    )
    report("ingest", text, write=options.write)


if __name__ == "__main__":
    main()
