"""The table of a sweep's plan."""

from __future__ import annotations

from eyegender.studies.plan_table import WIDTH, PlanRow, PlanTable


def row(depth: int, **values: float) -> PlanRow:
    given = {
        "depth": depth, "trials": 2.0, "start": 19 - depth, "source": 0, "chance": 1.0, "compute": 3.0, "store": 1.0,
        "epoch": 2.0, "epoch_without": 5.0, "nbytes": 1e9, "seconds": 40.0,
    }  # fmt: skip
    return PlanRow(**{**given, **values})  # type: ignore[arg-type]


def test_the_columns_say_what_each_depth_costs() -> None:
    table = PlanTable(trials=4, seconds=88, without=200, limit=5e9)
    table.add("", [row(0), row(19, start=0, nbytes=0.0, chance=0.0, epoch=5.0)])
    lines = table.lines()
    assert lines[0] == "plan: 4 trials in 1 min 28 s; 3 min 20 s without stored activations"
    assert lines[1] == "stored for the whole sweep: 1.000 of at most 5.000 GB"
    assert lines[3].split() == ["0", "2", "stage", "19", "3.00", "1.00", "2.00", "5.00", "1.000", "44.0"]
    assert lines[4].split() == ["19", "2", "images", "-", "-", "5.00", "5.00", "-", "40.0"]
    assert lines[5].split() == ["all", "4", "1.000", "88.0"]
    assert len({len(line) for line in lines[2:]}) == 1


def test_seconds_of_trials_that_may_end_early_are_the_most() -> None:
    table = PlanTable(trials=4, seconds=88, without=200, limit=5e9, ends_early=True)
    assert table.lines()[0].startswith("plan: 4 trials in at most 1 min 28 s; ")


def test_what_only_some_trials_need_counts_by_its_chance() -> None:
    assert row(0, chance=0.25).total == 41.0


def test_it_fits_a_terminal_with_large_numbers_and_long_labels() -> None:
    table = PlanTable(trials=1234.56, seconds=9e6, without=9e7, limit=9e13)
    wide = row(19, trials=123.45, compute=99999.0, store=99999.0, epoch=99999.0, epoch_without=99999.0, nbytes=9e12)
    table.add("model=mobilenet_v2 " * 9, [wide])
    table.add("model=inception_v3", [wide])
    assert all(len(line) <= WIDTH for line in table.lines())
    assert any("model=inception_v3" in line for line in table.lines())
