"""Charts hold what they are given: every point, whole numbers of points, axes that end above the highest value."""

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from streamdetect.replay.charts import Series, binned, lines, nice_top, whiskers

counts = st.lists(st.integers(0, 10**6), min_size=1, max_size=50)


def svg_of(text):
    return ET.fromstring(f"<div>{text}</div>").find("svg")


@given(counts, st.floats(0.01, 10**9))
def test_an_axis_ends_above_the_highest_value_and_not_far_above(values, value):
    assert value <= nice_top(value) <= 5 * value
    points = [
        float(point.split(",")[1])
        for line in svg_of(lines(list(range(len(values))), [Series("a", values, "red")])).findall("polyline")
        for point in line.get("points").split()
    ]
    assert len(points) == max(2, len(values))
    assert min(points) >= 10
    assert points[values.index(max(values))] == min(points)


def test_a_gap_breaks_the_line_and_names_are_escaped():
    text = lines([0, 1, 2, 3], [Series("<a & b>", [1, None, 2, 3], "red")])

    assert [len(line.get("points").split()) for line in svg_of(text).findall("polyline")] == [2, 2]
    assert "<a" not in text
    assert lines([], [Series("a", [], "red")]) == whiskers([]) == ""


@given(st.lists(st.integers(0, 9), max_size=2000))
def test_binning_loses_nothing_and_ends_in_few_points(values):
    times, (sums,) = binned(list(range(len(values))), [values])

    assert sum(sums) == sum(values)
    assert len(times) == len(sums) <= 400


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 100)), min_size=1, max_size=9))
def test_intervals_contain_their_value(pairs):
    rows = [(f"row {n}", value, max(0.0, value - width), value + width) for n, (value, width) in enumerate(pairs)]
    svg = svg_of(whiskers(rows))
    reaches, dots = svg.findall("line[@class='reach']"), svg.findall("circle")

    assert len(reaches) == len(dots) == len(rows)
    for reach, dot in zip(reaches, dots, strict=True):
        assert float(reach.get("x1")) - 0.1 <= float(dot.get("cx")) <= float(reach.get("x2")) + 0.1
        assert float(reach.get("x2")) <= 720.1
