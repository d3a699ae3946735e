"""Axes and marks."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kubedistill_runtime.report.svg import Plot, axis

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(numbers, st.floats(1e-3, 1e6))
def test_ticks_are_round_few_and_within_the_axis(low, span):
    assume(span > 1e-6 * abs(low))
    found = axis(low, low + span)
    assert 1 <= len(found.ticks) <= 8
    assert all(found.low - span * 1e-6 <= tick <= found.high + span * 1e-6 for tick in found.ticks)


@pytest.mark.parametrize("high", [5.0, float("nan"), 4.0])
def test_an_axis_without_extent_still_has_one(high):
    found = axis(5.0, high)
    assert found.high > found.low


def test_values_become_percentages_of_the_area():
    found = axis(10, 20)
    assert (found.at(10), found.at(15), found.at(20)) == (0, 50, 100)


def test_text_in_marks_is_escaped():
    plot = Plot(axis(0, 1), axis(0, 1), title='"><script>')
    plot.bar(0, 1, 0, 1, "bar", tip='"onload=<x>')
    plot.rule(0.5, "<b>")
    html = plot.render()
    assert "<script>" not in html
    assert "<x>" not in html
    assert "<b>" not in html
