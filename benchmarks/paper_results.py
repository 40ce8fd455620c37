"""The results behind docs/paper.md: stored from finished runs, and read back for the tables.

Store a run: python -m benchmarks.paper_results PROTOCOL NAME RUN_FOLDER    (for example paper 'MobileNet-V2, ImageNet')
Store a study: python -m benchmarks.paper_results --study NAME multirun/NAME
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from eyegender.tracking.predictions import Predictions

RESULTS = Path(__file__).parents[1] / "docs/results"
_FORMER_PROTOCOLS = {"paper_honest": "paper_grouped"}
_COLUMNS = ("name", "digest", "person", "label", "probability")
# What decides a result; images and weights are identified by their fingerprints, not by their paths.
_STORED_SECTIONS = ("model", "trainer", "features", "seed", "monitor", "data")
_PATHS_AND_MACHINE = ("root", "reader", "backbone", "file", "threads", "progress")


@dataclass(frozen=True)
class Result:
    """One stored run.

    Args:
        folder: its name in docs/results.
        protocol: under which it ran; runs of one protocol are comparable.
        name: network and first weights; runs of one name differ in their seed.
        metrics: the run's whole metrics.json.
        settings: its config, without paths and settings of the machine.
        predictions: of every test image.
    """

    folder: str
    protocol: str
    name: str
    metrics: dict[str, Any]
    settings: dict[str, Any]
    predictions: Predictions

    @property
    def accuracy(self) -> float:
        return float(self.metrics["metrics"]["test/accuracy"])

    @property
    def seed(self) -> int:
        return int(self.metrics["seed"])


def store_run(protocol: str, name: str, run: Path, results: Path = RESULTS) -> Path:
    """Copy what the tables need from a run's folder; returns the folder that holds it."""
    protocol = _FORMER_PROTOCOLS.get(protocol, protocol)
    metrics = json.loads((run / "metrics.json").read_text())
    if "test/accuracy" not in metrics["metrics"]:
        raise SystemExit(f"{run} was not tested (run_test=false); its result cannot be stored")
    config = yaml.safe_load((run / "config.yaml").read_text())
    settings = {key: _without_paths(config[key]) for key in _STORED_SECTIONS}
    if isinstance(settings["model"]["weights"], str) and Path(settings["model"]["weights"]).suffix:
        settings["model"]["weights"] = "a file, see metrics.json"
    folder = results / re.sub(r"[^a-z0-9_]+", "-", f"{protocol}-{name}-seed{metrics['seed']}".lower())
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / "metrics.json", folder / "metrics.json")
    (folder / "settings.json").write_text(
        json.dumps({"protocol": protocol, "name": name, "settings": settings}, indent=2) + "\n"
    )
    table = json.loads((run / "test_predictions.json").read_text())
    positions = [table["columns"].index(column) for column in _COLUMNS]
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        # The first eight hex digits tell the images of one test part apart.
        writer.writerows(
            [
                row[position][:8] if column == "digest" else row[position]
                for column, position in zip(_COLUMNS, positions, strict=True)
            ]
            for row in table["data"]
        )
    return folder


def store_study(name: str, sweep: Path, results: Path = RESULTS) -> Path:
    """Copy a finished study's table of trials and its summary."""
    folder = results / "studies" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("best.json", "trials.csv"):
        shutil.copyfile(sweep / "report" / file, folder / file)
    return folder


def load(results: Path = RESULTS) -> list[Result]:
    """All stored runs, sorted by protocol, name and seed."""
    found = []
    for path in results.glob("*/metrics.json"):
        about = json.loads((path.parent / "settings.json").read_text())
        with (path.parent / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {column: [row[column] for row in rows] for column in _COLUMNS}
        found.append(
            Result(
                path.parent.name,
                _FORMER_PROTOCOLS.get(about["protocol"], about["protocol"]),
                about["name"],
                json.loads(path.read_text()),
                about["settings"],
                Predictions.from_columns(
                    {
                        **columns,
                        "label": np.array(columns["label"], int),
                        "probability": np.array(columns["probability"], float),
                    }
                ).sorted(),
            )
        )
    return sorted(found, key=lambda result: (result.protocol, result.name, result.seed))


def load_studies(results: Path = RESULTS) -> dict[str, tuple[dict[str, Any], list[dict[str, str]]]]:
    """By name: the summary and the rows of trials."""
    studies = {}
    for path in sorted(results.glob("studies/*/best.json")):
        with (path.parent / "trials.csv").open(newline="") as file:
            studies[path.parent.name] = (json.loads(path.read_text()), list(csv.DictReader(file)))
    return studies


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items() if key not in _PATHS_AND_MACHINE}
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", action="store_true", help="store a study: NAME FOLDER")
    parser.add_argument(
        "words", nargs="+", metavar="WORD", help="PROTOCOL NAME RUN_FOLDER, or NAME FOLDER with --study"
    )
    options = parser.parse_args()
    if len(options.words) != (2 if options.study else 3):
        parser.error(f"got {len(options.words)} words; give PROTOCOL NAME RUN_FOLDER, or --study NAME FOLDER")
    *names, folder = options.words
    print((store_study if options.study else store_run)(*names, Path(folder)))


if __name__ == "__main__":
    main()
