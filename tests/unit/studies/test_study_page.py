"""The HTML report of a study: complete, self-contained, harmless and of a bounded size."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import math
import re
import shlex
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from eyegender.features.sweep_plan import PLAN_ATTR
from eyegender.studies.report import write_report
from eyegender.studies.reports import page as pages
from eyegender.studies.reports.drawn_trials import drawn_trials
from eyegender.studies.reports.savings import costs_by_state, saving_sentences
from eyegender.studies.selection_bias import selection_bias
from eyegender.tracking.experiment_view import RUN_ADDRESS
from eyegender.tracking.predictions import Predictions
from tests.studies import ADDRESS, EPOCHS, RATES, SECONDS, Trials

HOSTILE = """<script>alert("1")</script>' & <img src=x onerror=alert(2)> $x$ | [a](javascript:alert(3))"""
PLOTLY = "plotly.js v"


class Parsed(HTMLParser):
    """A page: its tags, references, texts outside of scripts, scripts and figures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.figures: list[str] = []
        self.scripts: list[str] = []
        self.policy, self.text, self._in = "", "", ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self._in = tag
        self.references += [found[name] for name in ("src", "href", "srcset", "data", "action") if name in found]
        self.handlers += [name for name in found if name.startswith("on")]
        if "chart" in found.get("class", "").split():
            self.figures.append(found["id"])
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts.append(data)
        elif self._in != "style":
            self.text += data

    @property
    def charts(self) -> dict[str, Any]:
        found = json.loads(self.scripts[0])
        assert isinstance(found, dict)
        return found

    def headings(self) -> list[str]:
        return [html.unescape(text) for text in re.findall(r"<h2[^>]*>([^<]*)</h2>", self.source)]


def report(trials: Trials, **options: Any) -> Parsed:
    path = write_report(trials.study, trials.status, trials.folder, **options)
    parsed = Parsed(path)
    # Whatever the study, the page asks nobody for anything, runs no script but its own, and breaks nothing.
    assert path == trials.folder / "report" / "report.html"
    assert all(ref.startswith(("data:image/", "#section-", ADDRESS)) for ref in parsed.references), parsed.references
    assert not parsed.handlers
    runs = [script for script in parsed.scripts if not script.startswith("{")]
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in runs}
    assert set(re.findall(r"'sha256-([^']+)'", parsed.policy)) == hashes
    assert parsed.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert parsed.source.count(PLOTLY) == (1 if parsed.figures else 0)
    if parsed.figures:
        assert [f"chart-{name}" for name in parsed.charts] == parsed.figures
        assert {f"{name}.png" for name in parsed.charts} <= {
            file.name for file in (trials.folder / "report" / "figures").iterdir()
        }
    return parsed


def test_a_study_with_trials_of_all_states(tmp_path: Path) -> None:
    trials = Trials(tmp_path, metrics=["val/accuracy"]).add_all(32)
    page = report(trials)
    assert page.headings() == [
        "Best trials", "Train it again", "Learning curves", "History", "Which parameters matter",
        "Parameters and values", "What it cost, and what was saved", "Failures", "All trials",
    ]  # fmt: skip
    names = [name.removeprefix("chart-") for name in page.figures]
    assert names[:2] == ["learning_curves", "history"]
    assert {"slice_model.lr", "slice_model.finetune_depth", "slice_optimizer", "parallel_coordinates"} < set(names)
    best = trials.status.best[0]
    assert f"Trial {best.number} has the best val/accuracy of 16 complete trials: {best.values[0]:.4g}." in page.text
    assert "16 complete, 8 pruned, 4 failed, 4 paused" in page.text
    assert page.text.count("loss is NaN") == 4


def test_pruned_and_paused_curves_differ_in_colour_shape_and_dash(tmp_path: Path) -> None:
    page = report(Trials(tmp_path).add_all(16))
    curves = page.charts["learning_curves"]["data"]
    ends = {trace["name"].split(" (")[0]: trace["marker"] for trace in curves if trace["mode"] == "markers"}
    assert set(ends) == {"complete", "pruned", "paused", "failed"}
    for key in ("color", "symbol"):
        assert len({marker[key] for marker in ends.values()}) == 4
    lines = {trace["line"]["color"]: trace["line"]["dash"] for trace in curves if trace["mode"] == "lines"}
    assert lines[ends["complete"]["color"]] == "solid"
    assert {lines[ends[state]["color"]] for state in ("pruned", "paused")} == {"dash"}
    counts = {trace["name"] for trace in curves if trace["mode"] == "markers"}
    assert "pruned (4)" in counts
    # Every report of every trial is there.
    drawn = sum(y is not None for trace in curves if trace["mode"] == "lines" for y in trace["y"])
    assert drawn == 8 * EPOCHS + 8 * 3


@pytest.mark.parametrize("state", ["failed", "pruned", "paused"])
def test_a_study_without_a_complete_trial(tmp_path: Path, state: str) -> None:
    trials = Trials(tmp_path)
    for _ in range(3):
        trials.add(state)
    page = report(trials)
    assert "No trial is complete, so there is no best one." in page.text
    assert "Best trials" not in page.headings()
    assert ("Failures" in page.headings()) == (state == "failed")
    assert "Importance is unknown" in page.text


def test_a_study_without_trials(tmp_path: Path) -> None:
    page = report(Trials(tmp_path))
    assert "no trials" in page.text
    assert page.figures == []


def test_a_study_of_one_trial_without_reports(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.add(reported=[], values=[0.75])
    page = report(trials)
    assert "Trial 0 has the best value of 1 complete trial: 0.75." in page.text
    assert page.figures == ["chart-history", "chart-cost"]


def test_a_study_of_one_parameter(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    for rate in (1e-4, 1e-3, 1e-2):
        trials.add(params={"model.lr": (rate, RATES)})
    page = report(trials)
    assert "chart-slice_model.lr" in page.figures
    assert "chart-parallel_coordinates" not in page.figures  # one parameter is no pattern
    assert page.charts["slice_model.lr"]["layout"]["xaxis"]["type"] == "log"


def test_conditional_parameters_and_categories_with_numbers_in_them(tmp_path: Path) -> None:
    trials = Trials(tmp_path).add_all(24)
    page = report(trials)
    depth = page.charts["slice_model.finetune_depth"]["layout"]["xaxis"]
    complete = [row for row in trials.status.trials if row.state == "complete"]
    present = {row.params["model.finetune_depth"] for row in complete}
    assert depth["ticktext"] == [name for name in ("0", "2", "4", "8", "all") if name in present]
    momenta = page.charts["slice_optimizer.momentum"]["data"][0]["x"]
    assert len(momenta) == sum("optimizer.momentum" in row.params for row in complete)
    lines = page.charts["parallel_coordinates"]
    heights = [y for trace in lines["data"] if trace["name"] for y in trace["y"] if y is not None]
    assert min(heights) < 0 <= max(heights) <= 1  # trials without the parameter pass below
    assert "Lines below an axis" in next(
        chart.note for section in _sections(trials) for chart in section.charts if chart.name == "parallel_coordinates"
    )


def _sections(trials: Trials) -> Any:
    from eyegender.studies.reports.content import Findings, report_page

    return report_page(trials.study, trials.status, ["value"], Findings(), trials.folder).sections


def test_several_objectives(tmp_path: Path) -> None:
    trials = Trials(tmp_path, "maximize", "minimize", metrics=["val/accuracy", "latency_ms"])
    for accuracy, latency in ((0.9, 20.0), (0.8, 10.0), (0.7, 15.0), (0.95, 40.0)):
        trials.add(values=[accuracy, latency])
    trials.add("failed")
    page = report(trials)
    assert "3 of 4 complete trials are on the Pareto front." in page.text
    assert {"Pareto front", "Trade-offs"} < set(page.headings())
    front = {trace["name"]: trace for trace in page.charts["pareto_front"]["data"] if trace["name"]}
    assert sorted(front["Pareto front"]["x"]) == [0.8, 0.9, 0.95]
    assert front["other trials"]["y"] == [15.0]
    axes = page.charts["pareto_front"]["layout"]
    assert axes["xaxis"]["title"]["text"] == "val/accuracy (higher is better)"
    assert axes["yaxis"]["title"]["text"] == "latency_ms (lower is better)"
    assert "val/accuracy" in page.charts["history"]["layout"]["yaxis"]["title"]["text"]
    assert "best so far" not in {trace["name"] for trace in page.charts["history"]["data"]}


def test_three_objectives_have_a_figure_for_each_pair(tmp_path: Path) -> None:
    trials = Trials(tmp_path, "maximize", "minimize", "minimize")
    for i in range(4):
        trials.add(values=[i, i, 4 - i])
    figures = {f"chart-pareto_front_{pair}" for pair in ("0_1", "0_2", "1_2")}
    assert figures < set(report(trials).figures)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    trials = Trials(tmp_path, "minimize")
    trials.add(values=[0.5], reported=[0.9, math.nan, 0.5])
    trials.add(values=[math.inf], reported=[math.inf, math.inf])
    trials.add(values=[-math.inf], reported=[math.nan, math.nan])
    trials.add(values=[0.4])
    page = report(trials)
    assert "-inf" in page.text
    best = next(trace for trace in page.charts["history"]["data"] if trace["name"] == "best so far")
    assert best["y"] == [0.5, 0.4, 0.4]  # infinity is no best value to draw
    assert len(page.charts["slice_model.lr"]["data"][0]["x"]) == 2


def test_names_values_and_reasons_of_others_are_text(tmp_path: Path) -> None:
    trials = Trials(tmp_path, name=HOSTILE, metrics=[HOSTILE])
    choices = CategoricalDistribution([HOSTILE, "x" * 300])
    for i in range(6):
        params = {HOSTILE: (choices.choices[i % 2], choices), "a.b": (i, IntDistribution(0, 9))}
        trials.add("failed" if i == 5 else "complete", params=params, reason=HOSTILE)
    page = report(trials)
    assert "<img src=x" not in page.source
    assert page.source.count("<script") == 3  # the data, plotly.js and the page's own
    assert page.tags.count("script") == 3
    assert "img" in page.tags
    assert 'alert("1")' in page.text
    texts = json.dumps(page.charts).replace("<extra></extra>", "")  # of plotly.js
    assert "<" not in texts
    assert f"slice_{re.sub(r'[^a-zA-Z0-9_.-]', '_', HOSTILE)}" in page.charts
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert markdown.startswith("# Study")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", 'http://x" onclick="y', 7, ""])
def test_only_an_address_becomes_a_link(tmp_path: Path, address: object) -> None:
    trials = Trials(tmp_path)
    trials.add(attrs={RUN_ADDRESS: address})
    page = report(trials)
    assert not [ref for ref in page.references if not ref.startswith(("data:image/", "#section-"))]


def test_trials_and_the_study_link_their_runs(tmp_path: Path) -> None:
    trials = Trials(tmp_path).add_all(3)
    trials.study.set_user_attr(RUN_ADDRESS, f"{ADDRESS}parent")
    page = report(trials)
    assert f"{ADDRESS}parent" in page.references
    for number in range(3):
        assert f"{ADDRESS}{number:032x}" in page.references


def test_the_command_that_trains_the_best_again_is_quoted_for_a_shell(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.add(values=[0.9])
    trials.add(values=[0.8])
    overrides = ["model.lr=0.001", "data.root=/my pictures/it's <here>", "+sweeps=finetune", "run_test=false"]
    folder = tmp_path / "trials" / "0" / ".hydra"
    folder.mkdir(parents=True)
    (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    page = report(trials)
    [command] = re.findall(r"<pre><code>(.*?)</code></pre>", page.source)
    assert shlex.split(html.unescape(command)) == ["eyegender", "train", *overrides[:2]]


def test_a_command_that_is_lost_is_said_to_be(tmp_path: Path) -> None:
    trials = Trials(tmp_path).add_all(1)
    page = report(trials)
    assert "How trial 0 was trained is unknown" in page.text
    assert "<pre>" not in page.source


def test_best_trials_have_intervals_and_what_luck_did_comes_first(tmp_path: Path) -> None:
    trials, rng = Trials(tmp_path, metrics=["val/accuracy"]), np.random.default_rng(0)
    labels = np.arange(200) % 2
    for right in (180, 170, 160):
        probabilities = np.where(labels == 1, 0.9, 0.1)
        wrong = rng.permutation(200)[: 200 - right]
        probabilities[wrong] = 1 - probabilities[wrong]
        names = tuple(f"{i}.png" for i in range(200))
        output = tmp_path / "trials" / str(len(trials.made))
        output.mkdir(parents=True)
        table = Predictions(names, names, labels, probabilities).to_table()
        (output / "val_predictions.json").write_text(json.dumps(table))
        trials.add(values=[right / 200])
    bias = selection_bias(trials.study, trials.status, tmp_path)
    assert bias is not None
    page = report(trials, bias=bias)
    answer = re.search(r'<p class="answer">(.*?)</p>', page.source)
    assert answer is not None
    assert html.unescape(answer[1]) == bias.sentences[0]
    low, high = re.findall(r"90\.0%<small>([\d.]+) to ([\d.]+)%</small>", page.source)[0]
    assert 84 < float(low) < 88 < 92 < float(high) < 96


def test_a_large_study_stays_usable(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.study.add_trials([])
    for i in range(30):
        trials.add(("complete", "pruned")[i % 2])
    trials.study.add_trials([trials.made[i % 30] for i in range(2970)])
    status = trials.status
    assert len(status.trials) == 3000
    page = report(trials)
    assert len(page.source) < 8e6
    assert "The figures show 1,000 of 3,000 trials" in page.text
    curves = page.charts["learning_curves"]["data"]
    assert sum(len(trace["x"]) for trace in curves if trace["mode"] == "markers") == 999  # and the best one
    assert "The first 200 of 3,000 trials" in page.text
    assert len((tmp_path / "report" / "trials.csv").read_text().splitlines()) == 3001
    drawn = drawn_trials(status, ["value"])
    assert {row.number for row in status.best[:500]} < {row.number for row in drawn.rows}
    others = [row.number for row in drawn.rows if row.state == "pruned"]
    assert max(b - a for a, b in itertools.pairwise(others)) < 60  # spread over the whole study


def test_what_pruning_saved_is_counted_in_epochs_and_seconds(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.add("complete")
    trials.add("pruned")  # 3 of 10 epochs, of 4 seconds each
    trials.add("paused", seconds=1.0)
    costs = {cost.state: (cost.trials, cost.epochs, cost.seconds) for cost in costs_by_state(trials.status)}
    assert costs == {"complete": (1, 10, 40.0), "pruned": (1, 3, 12.0), "paused": (1, 3, 3.0)}
    saved = saving_sentences(trials.status)[0]
    assert saved == (
        "Pruning and pausing saved 14 of 30 epochs (47%), at each trial's own seconds per epoch about 35 s; the study "
        "took 55 s."
    )
    assert saved in report(trials).text


def test_what_stored_activations_saved_follows_from_the_plan(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    depth = CategoricalDistribution(["0", "8"])
    for value in ("0", "8", "8"):
        trials.add(params={"model.finetune_depth": (value, depth)})
    assert "is unknown" in saving_sentences(trials.status)[1]  # a study without a plan
    plan = {"epoch_seconds": {"": {"0": 0.5, "8": 2.0}}, "epoch_seconds_from_images": {"": {"0": 6.0, "8": 7.0}}}
    trials.study.set_user_attr(PLAN_ATTR, plan | {"build_seconds": 30.0})
    # 10 epochs of 5.5 s and 20 of 5 s less, and 30 s to store
    assert saving_sentences(trials.status)[1].startswith("Stored activations saved about 2 min 05 s in 30 epochs")
    for damaged in ({"epoch_seconds": 3}, {"epoch_seconds": {"": 3}}, 7):
        trials.study.set_user_attr(PLAN_ATTR, damaged)
        assert "is unknown" in saving_sentences(trials.status)[1]


def test_kinds_of_trials_of_a_plan_are_told_apart(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    models = CategoricalDistribution(["a", "b", "c"])
    for model in ("a", "b", "c"):
        trials.add(params={"model": (model, models), "model.finetune_depth": ("0", CategoricalDistribution(["0"]))})
    with_stored = {"model=a": {"0": 1.0}, "model=b": {"0": 2.0}}
    without = {"model=a": {"0": 2.0}, "model=b": {"0": 5.0}}
    trials.study.set_user_attr(PLAN_ATTR, {"epoch_seconds": with_stored, "epoch_seconds_from_images": without})
    found = saving_sentences(trials.status)[1]
    assert found.startswith("Stored activations saved about 40 s in 20 epochs")
    assert found.endswith("1 trials that the plan does not know are left out.")


def test_seconds_of_a_study_without_a_scheduler_are_those_of_the_clock(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.add("complete")
    trials.made[0].system_attrs.clear()
    trials.study.add_trial(trials.made[0])
    rows = trials.status.trials
    assert rows[0].seconds_at
    assert not rows[1].seconds_at
    assert costs_by_state(trials.status)[0].seconds == 2 * EPOCHS * SECONDS


def test_without_plotly_the_page_has_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    pages._plotly.cache_clear()
    try:
        trials = Trials(tmp_path).add_all(8)
        page = Parsed(write_report(trials.study, trials.status, tmp_path))
    finally:
        pages._plotly.cache_clear()
    assert PLOTLY not in page.source
    assert page.tags.count("img") >= 6


def test_slices_show_the_most_important_parameters_first(tmp_path: Path) -> None:
    trials, rng = Trials(tmp_path), np.random.default_rng(0)
    distribution = FloatDistribution(0, 1)
    for _ in range(20):
        params = {f"p{i:02d}": (float(rng.uniform()), distribution) for i in range(14)}
        trials.add(params=params, values=[params["p13"][0]])
    page = report(trials)
    slices = [name for name in page.figures if name.startswith("chart-slice_")]
    assert len(slices) == 12
    assert slices[0] == "chart-slice_p13"
    assert "Shown are 12 parameters, the most important ones first." in page.text
