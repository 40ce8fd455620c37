"""The page on the paper shows the stored results, and the tools that store and tabulate them are correct."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import paper_tables
from benchmarks.paper_results import RESULTS, load, store_run, store_study
from benchmarks.paper_tables import PAGE, tables, written


def left_by_a_run(
    folder: Path, right: list[bool], seed: int = 0, name: str = "mobilenet_v2", tested: bool = True
) -> Path:
    """A run's folder; two pictures a person, the first half of them female."""
    folder.mkdir()
    labels = [int(2 * i >= len(right)) for i in range(len(right))]
    metrics: dict[str, Any] = {
        "metrics": {"val/accuracy": 0.5, **({"test/accuracy": sum(right) / len(right)} if tested else {})},
        "best_epoch": 2.0, "fit_seconds": 90.0, "epochs": 3, "model": name, "finetune_depth": 0, "size": 96,
        "seed": seed, "commit": {"git.commit": "0123456789abcdef"}, "versions": {"torch": "2.11.0"},
        "hardware": {"cpu": "a processor", "cores": "2", "gpu": "none"},
    }  # fmt: skip
    rows = [
        [f"{i}.jpg", f"{i:08x}ffffffff", f"p{i // 2}", label, 0.9 if (label == 1) == right[i] else 0.1]
        for i, label in enumerate(labels)
    ]
    columns = ["name", "digest", "person", "label", "probability"]
    config = {
        "model": {"name": name, "weights": "somewhere/weights.pth"}, "trainer": {"max_epochs": 3, "threads": 2},
        "features": {}, "seed": seed, "monitor": "val/accuracy", "data": {"root": "somewhere/eyes", "color": "gray"},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "test_predictions.json").write_text(json.dumps({"columns": columns, "data": rows}))
    return folder


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if not line.startswith("|-")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_runs_of_one_name_are_one_row_and_pairs_are_tested_on_the_same_pictures(tmp_path: Path) -> None:
    results = tmp_path / "results"
    store_run("paper_grouped", "A", left_by_a_run(tmp_path / "a0", [True] * 36 + [False] * 4), results)
    store_run("paper_grouped", "A", left_by_a_run(tmp_path / "a1", [True] * 32 + [False] * 8, seed=1), results)
    store_run("paper_grouped", "B", left_by_a_run(tmp_path / "b0", [True] * 20 + [False] * 20), results)
    made = tables(results)
    assert [row[:1] + row[4:7] for row in cells(made["paper_grouped"])[1:]] == [
        ["A", "2", "40", "85.00% (80.0 to 90.0)"],
        ["B", "1", "40", "50.00%"],
    ]
    [[pair, gap, discordant, p]] = cells(made["paper_grouped differences"])[1:]
    assert (pair, discordant) == ("A against B", "16")
    assert gap.startswith("+40.0 points (")
    assert p == "= 0.008"  # 16 pictures of 8 persons, all one way: 2 / 2^8


def test_results_of_a_former_protocol_name_are_found(tmp_path: Path) -> None:
    results = tmp_path / "results"
    folder = store_run("paper_honest", "A", left_by_a_run(tmp_path / "a0", [True] * 4), results)
    assert folder.name == "paper_grouped-a-seed0"
    settings = folder / "settings.json"  # as it was stored before the protocol was renamed
    settings.write_text(settings.read_text().replace("paper_grouped", "paper_honest"))
    assert [result.protocol for result in load(results)] == ["paper_grouped"]


def test_a_stored_result_names_no_path(tmp_path: Path) -> None:
    results = tmp_path / "results"
    store_run("paper", "A", left_by_a_run(tmp_path / "a0", [True] * 4), results)
    assert not [path for path in results.rglob("*.*") if "somewhere" in path.read_text()]
    [result] = load(results)
    assert result.settings["data"] == {"color": "gray"}
    assert result.settings["trainer"] == {"max_epochs": 3}


def test_an_untested_run_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="was not tested"):
        store_run("paper", "A", left_by_a_run(tmp_path / "a0", [True] * 4, tested=False), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_study(tmp_path: Path) -> None:
    report = tmp_path / "sweep/report"
    report.mkdir(parents=True)
    best = {
        "best": [{"trial": 1, "values": [0.9], "params": {"model.lr": 0.00123456, "model": "mobilenet_v2"}}],
        "importances": [
            {
                "among": "all trials",
                "n_trials": 7,
                "shares": {
                    "model.lr": {"share": 0.75, "low": 0.5, "high": 1.0},
                    "model": {"share": 0.25, "low": 0.0, "high": 0.5},
                },
            }
        ],
        "test": {"test/accuracy": 0.875},
    }
    (report / "best.json").write_text(json.dumps(best))
    (report / "trials.csv").write_text("trial,state\n0,pruned\n1,complete\n2,complete\n")
    store_study("backbones", tmp_path / "sweep", tmp_path / "results")
    assert cells(tables(tmp_path / "results")["study backbones"])[1:] == [
        ["trials", "2 complete, 1 pruned"],
        ["best validation accuracy", "90.00%"],
        ["found with", "model.lr=0.00123, model=mobilenet_v2"],
        ["its test accuracy", "87.50%"],
        ["importance of `model.lr`", "75% (50 to 100)"],
        ["importance of `model`", "25% (0 to 50)"],
    ]


def test_a_page_that_asks_for_a_table_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        written("<!-- table: nowhere -->\n<!-- end -->\n", {})


@pytest.mark.skipif(not PAGE.is_file(), reason="no page yet")
def test_the_page_holds_the_tables_of_the_stored_results() -> None:
    page, made = PAGE.read_text(), tables(RESULTS)
    assert written(page, made) == page, "python -m benchmarks.paper_tables --write"
    shown = set(re.findall(r"<!-- table: ([^>]+) -->", page))
    assert shown == made.keys() - {name for name in made if made[name].count("\n") < 2}
    assert paper_tables.RESULTS == RESULTS
