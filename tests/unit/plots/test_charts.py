"""A chart on paper and on a screen shows the same points and texts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from eyegender.plots.chart import Axis, Chart, Series
from eyegender.plots.chart_figure import draw_chart
from eyegender.plots.interactive import plotly_figure, plotly_script

HOSTILE = "<script>alert('$x$')</script> & co"


def chart(*series: Series, **options: object) -> Chart:
    return Chart("name", "Title", series, **options)  # type: ignore[arg-type]


def test_both_draw_the_same_points() -> None:
    one = chart(
        Series("line", [1, 2, 3], [0.1, math.nan, 0.3]),
        Series("points", [1, 2], [0.5, 0.6], "points", texts=["a", "b"]),
        Series("band", [0, 1], [0.9, 1.0], "band", low=[0.1, 0.2]),
        x=Axis("x"), y=Axis("y"),
    )  # fmt: skip
    axes = draw_chart(one).axes[0]
    data = plotly_figure(one)["data"]
    assert [trace["name"] for trace in data] == ["line", "points", "band", "band"]
    assert data[0]["y"] == [0.1, None, 0.3]
    np.testing.assert_equal(axes.lines[0].get_ydata(), [0.1, math.nan, 0.3])
    assert axes.collections[0].get_offsets().tolist() == [[1, 0.5], [2, 0.6]]
    assert data[1]["text"] == ["a", "b"]
    assert [data[2]["y"], data[3]["y"]] == [[0.1, 0.2], [0.9, 1.0]]
    assert (data[3]["fill"], data[2]["showlegend"], data[3]["showlegend"]) == ("tonexty", False, True)
    edges = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == (0.1, 1.0)
    assert axes.get_legend() is not None
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["line", "points", "band"]


def test_what_json_lacks_is_a_gap() -> None:
    one = chart(Series("s", [1, 2, 3], [math.inf, -math.inf, math.nan], "points"))
    [trace] = plotly_figure(one)["data"]
    assert trace["y"] == [None, None, None]
    json.dumps(plotly_figure(one), allow_nan=False)
    draw_chart(one).canvas.draw()


def test_texts_of_users_are_no_html_and_no_formula() -> None:
    ticks, texts = [(0.0, HOSTILE)], [(0.0, 0.5, HOSTILE)]
    one = chart(
        Series(HOSTILE, [0.0], [0.5], "points", texts=[HOSTILE]),
        x=Axis(HOSTILE, ticks=ticks), y=Axis(HOSTILE), texts=texts, note=HOSTILE,
    )  # fmt: skip
    assert "<script" not in json.dumps(plotly_figure(one))
    figure = draw_chart(one)
    figure.canvas.draw()  # a formula would fail here, or be set as one
    assert figure.axes[0].get_xlabel() == HOSTILE.replace("$", r"\$")


def test_axes_are_the_same() -> None:
    one = chart(
        Series("s", [1e-4, 1e-2], [0, 1], "points"), x=Axis(log=True, limits=(1e-5, 1e-1)), y=Axis(limits=(-1, 2))
    )
    axes, layout = draw_chart(one).axes[0], plotly_figure(one)["layout"]
    assert (axes.get_xscale(), layout["xaxis"]["type"]) == ("log", "log")
    assert axes.get_xlim() == (1e-5, 1e-1)
    assert layout["xaxis"]["range"] == pytest.approx([-5, -1])
    assert tuple(layout["yaxis"]["range"]) == axes.get_ylim() == (-1, 2)


def test_names_that_look_like_dates_are_places_on_a_linear_axis() -> None:
    one = chart(Series("s", [0, 1], [0, 1], "points"), x=Axis(ticks=[(0, "2026-01-01"), (1, "a" * 40)]))
    axis = plotly_figure(one)["layout"]["xaxis"]
    assert (axis["type"], axis["tickvals"], axis["ticktext"][0]) == ("linear", [0, 1], "2026-01-01")
    assert len(axis["ticktext"][1]) == 24


def test_one_value_is_in_the_middle_of_its_axis() -> None:
    axis = plotly_figure(chart(Series("s", [1, 2], [0.5, 0.5])))["layout"]["yaxis"]
    assert axis["range"] == pytest.approx([0.45, 0.55])
    assert "range" not in plotly_figure(chart(Series("s", [1, 2], [0.5, 0.6])))["layout"]["yaxis"]
    plotly_figure(chart(Series("s", [1], [math.nan])))


def test_plotly_can_stand_in_a_script_element() -> None:
    assert "Plotly" in plotly_script()
    assert "</script" not in plotly_script()
