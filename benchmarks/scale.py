"""Processor seconds and peak memory of a start, of CelebA's tables, of near-duplicates and of an audit, by size.

Run: python -m benchmarks.scale [--rows celeba,start,near,audit] [--sizes 25000,50000,...] [--folder FOLDER] [--write]
Everything is generated. Each size is measured in a fresh process, from after the imports on; the growth is the exponent
of a power law, fitted by least squares to the logarithms. `celeba` writes a small JPEG file per face (the sizes are
numbers of faces), all others images of 8 or 32 pixels that exist only in the cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measuring import environment, report, table

ROWS = {
    "celeba": ("first read of CelebA's tables, faces", "later read, faces"),
    "start": ("start of a training on decoded images, images",),
    "near": ("search for near-duplicates, images",),
    "audit": ("audit, images",),
}
SIZES = {
    "celeba": (25_000, 50_000, 100_000, 202_599),
    "start": (125_000, 250_000, 500_000, 1_000_000),
    "near": (50_000, 75_000, 100_000, 150_000),
    "audit": (12_500, 25_000, 50_000, 100_000),
}


def measure(row: str, size: int, step: int, folder: Path) -> dict[str, float]:
    """Processor seconds and megabytes of a step, told by a fresh process."""
    program = "from benchmarks.scale_steps import main; main()"
    command = [sys.executable, "-c", program, row, str(size), str(step), str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {row} {size:,}: {ROWS[row][step] if step >= 0 else 'generated'} {found}", file=sys.stderr, flush=True)
    return found


def growth(sizes: list[int], values: list[float]) -> float:
    """The exponent of a power law through the values."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-3)), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--sizes", help="instead of the default of each row")
    parser.add_argument("--folder", type=Path, help="of the generated data, which stay there; default: a temporary one")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    lines = [("what", "size", "processor s", "peak MB", "MB before")]
    laws = [("what", "time grows with", "memory beyond imports grows with")]
    with tempfile.TemporaryDirectory() as temporary:
        for row in options.rows.split(","):
            sizes = [int(size) for size in options.sizes.split(",")] if options.sizes else list(SIZES[row])
            found: list[list[dict[str, float]]] = [[] for _ in ROWS[row]]
            for size in sizes:
                folder = (options.folder or Path(temporary)) / f"{row}{size}"
                folder.mkdir(parents=True, exist_ok=True)
                if not (folder / "generated").exists():
                    measure(row, size, -1, folder)
                    (folder / "generated").touch()
                for step in range(len(ROWS[row])):
                    found[step].append(measure(row, size, step, folder))
            for what, each in zip(ROWS[row], found, strict=True):
                for size, one in zip(sizes, each, strict=True):
                    lines.append(
                        (what, f"{size:,}", f"{one['seconds']:.2f}", f"{one['peak']:.0f}", f"{one['base']:.0f}")
                    )
                if len(sizes) > 1:
                    time_law = growth(sizes, [one["seconds"] for one in each])
                    memory_law = growth(sizes, [one["peak"] - one["base"] for one in each])
                    laws.append((what, f"n^{time_law:.2f}", f"n^{memory_law:.2f}"))
    text = f"{table(lines)}\n\n{table(laws)}"
    report("scale", text, write=options.write, heading=f"scale: {options.rows}")


if __name__ == "__main__":
    main()
