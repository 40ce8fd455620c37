"""Damaged and hostile input: each file and each command line works or is refused with a one-line error.

    python -m benchmarks.fuzz [--images 10000] [--annotations 1000] [--overrides 1000] [--seed 0] [--write]

If anything else happens, the command exits with code 1 and prints how to reproduce it. A case that takes longer than a
minute ends the process with a traceback that shows where it hangs.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.command_lines import CommandLines
from benchmarks.measuring import report, table
from benchmarks.mutation import KINDS, images, mutated, mutated_text
from eyegender.core.errors import UserError
from eyegender.data.celeba import CelebaReader
from eyegender.data.decode import decode, read_header, to_pixels
from eyegender.data.readers import UnreadableImageError
from eyegender.data.split_file import read_split_csv
from eyegender.inference.faces import read_eye_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST = 60.0
_FOLDERS = re.compile(r"\S*/")


@dataclass
class Tally:
    """What became of the cases of one kind."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def row(self) -> list[str]:
        works, refused = self.outcomes["works"], self.outcomes["refused"]
        total = sum(self.outcomes.values())
        counts = [f"{n:,}" for n in (total, works, refused, len(self.reasons), len(self.faults))]
        return [self.kind, *counts, f"{self.slowest:.2f} s"]


HEADER = ["input", "cases", "work", "refused", "different reasons", "faults", "slowest"]


def tried(tally: Tally, name: str, case: Callable[[], None]) -> None:
    """Run one case; it returns, or raises one of the two exceptions that are reported in one line."""
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    began = time.perf_counter()
    try:
        case()
        outcome = "works"
    except (UnreadableImageError, UserError) as error:
        outcome = "refused"
        tally.reasons[_FOLDERS.sub("", str(error))[:60]] += 1
        if "\n" in str(error) or not str(error):
            tally.faults.append(f"{name}: a reason of several lines: {error!r}")
    except (Exception, SystemExit) as error:
        outcome = "fault"
        tally.faults.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
    finally:
        faulthandler.cancel_dump_traceback_later()
    tally.outcomes[outcome] += 1
    tally.slowest = max(tally.slowest, time.perf_counter() - began)


def fuzz_pictures(kind: str, count: int, seed: int) -> Tally:
    """Header, decoding and resizing, as the readers do it."""
    tally, whole = Tally(f"{kind} files"), images(kind)
    for i in range(count):
        chance = random.Random(f"{seed} {kind} {i}")
        data = mutated(chance.choice(whole), chance, chance.choice(whole))
        tried(tally, f"{kind} case {i}, seed {seed}", lambda data=data: _read(data))
    return tally


def _read(data: bytes) -> None:
    read_header(data)
    image = decode(data)
    for color in ("gray", "rgb"):
        to_pixels(image, 24, color)


def fuzz_annotations(count: int, seed: int, folder: Path) -> Tally:
    """One file of a small CelebA changed, or a split's or eye positions' CSV; the whole reader each time."""
    whole = celeba(folder)
    tally = Tally("annotation and CSV files")
    samples = CelebaReader(folder, cache=folder / "cache").read()
    for i in range(count):
        chance = random.Random(f"{seed} annotations {i}")
        path = chance.choice(list(whole))
        path.write_bytes(mutated_text(whole[path], chance))

        def case(path: Path = path) -> None:
            if path.name == "split.csv":
                read_split_csv(path, samples)
            elif path.name == "eyes.csv":
                read_eye_table(path, 1.0)
            else:
                CelebaReader(folder, cache=folder / "cache").read()

        tried(tally, f"{path.name} case {i}, seed {seed}", case)
        path.write_text(whole[path])
    return tally


def celeba(folder: Path) -> dict[Path, str]:
    """A small CelebA with a split and eye positions beside it; its text files."""
    home = folder / "img_align_celeba"
    home.mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 9)]
    for i, name in enumerate(names):
        (home / name).write_bytes(images("JPEG", seed=i)[1])
    attributes = ["Male", *(f"Attribute_{i}" for i in range(39))]
    signs = [" ".join("1" if (i + k) % 2 else "-1" for k in range(40)) for i in range(len(names))]
    points = "12 14 28 15 20 20 14 28 26 29"
    point_names = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y left_x left_y right_x right_y"
    texts = {
        "list_attr_celeba.txt": [str(len(names)), " ".join(attributes),
                                 *(f"{n}  {s}" for n, s in zip(names, signs, strict=True))],
        "list_landmarks_align_celeba.csv": ["image_id," + point_names.replace(" ", ","),
                                            *(f"{n},{points.replace(' ', ',')}" for n in names)],
        "identity_CelebA.txt": [f"{name} {i // 2}" for i, name in enumerate(names)],
        "list_eval_partition.txt": [f"{name} {i % 3}" for i, name in enumerate(names)],
        "split.csv": ["path,label,split,person",
                      *(f"{name}#left,{(i + 1) % 2},{('train', 'val', 'test')[i % 3]},{i}"
                        for i, name in enumerate(names))],
        "eyes.csv": ["path,left_x,left_y,right_x,right_y", *(f"{name},1.5,2,3,4" for name in names)],
    }  # fmt: skip
    whole = {folder / name: "\n".join(lines) + "\n" for name, lines in texts.items()}
    for path, text in whole.items():
        path.write_text(text)
    return whole


def fuzz_overrides(count: int, seed: int, folder: Path) -> Tally:
    """Random command lines, given to the commands up to where they would begin to work."""
    import_module("eyegender.training.build")  # so that no case waits for torch to be imported
    tally = Tally("command lines")
    with CommandLines(folder) as lines:
        for i in range(count):
            command, arguments = lines.draw(random.Random(f"{seed} overrides {i}"))
            description = f"{command} {' '.join(arguments)!r}, case {i}, seed {seed}"
            tried(tally, description, lambda command=command, arguments=arguments: lines.run(command, arguments))
    return tally


def fuzz(options: argparse.Namespace) -> Iterator[Tally]:
    for number, kind in enumerate(KINDS):
        share = options.images // len(KINDS) + (number < options.images % len(KINDS))
        yield fuzz_pictures(kind, share, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        yield fuzz_annotations(options.annotations, options.seed, Path(folder) / "celeba")
        yield fuzz_overrides(options.overrides, options.seed, Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--annotations", type=int, default=1_000)
    parser.add_argument("--overrides", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    options = parser.parse_args()
    logging.getLogger("eyegender").setLevel(logging.ERROR)
    os.environ["EYEGENDER_CACHE"] = tempfile.mkdtemp(prefix="fuzz-")
    tallies = []
    for tally in fuzz(options):
        print(f"{tally.kind}: {dict(tally.outcomes)}", file=sys.stderr, flush=True)
        for fault in tally.faults[:20]:
            print(f"  FAULT {fault}", file=sys.stderr)
        tallies.append(tally)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    text = f"{table([HEADER, *(tally.row() for tally in tallies)])}\n\nPeak memory {peak:.1f} GB."
    report("fuzz", text, write=options.write)
    sys.exit(any(tally.faults for tally in tallies))


if __name__ == "__main__":
    main()
