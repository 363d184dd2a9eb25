"""Load curves: tests that differ in their load only, in the terminal, Markdown and HTML."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_sessions import row, session, short_answer

from pytest_llmperf.report.forms.markdown import session_markdown
from pytest_llmperf.report.html import write_html
from pytest_llmperf.report.html.load_curves import load_curves
from pytest_llmperf.report.json_report import session_json
from pytest_llmperf.report.load_curve import curves_of_report, curves_of_session, load_curve_lines
from pytest_llmperf.report.reported import session_of
from pytest_llmperf.report.table import table_lines
from pytest_llmperf.session.result import SessionResult, TestResult
from pytest_llmperf.session.shown_load import ShownLoad

NAME = "tests/perf/test_load.py::test_chat"


def under_load(
    load: float, latency: float, *, closed: bool = False, work: str = "1 request"
) -> TestResult:
    """Return a test under this load, whose requests take ``latency`` seconds."""
    rows = (
        row("requests_per_sec", *(load * v for v in (0.99, 1.0, 0.98)), limit=0.5),
        row("request_latency", *(latency * v for v in (1.0, 1.01, 0.99)), limit=60.0),
        row("tokens_per_sec", *(100 / latency * v for v in (1.0, 1.01, 0.99)), gated=False),
    )
    pattern = f"{load:g} in flight" if closed else f"{load:g} requests/s"
    shown = ShownLoad(
        pattern,
        "closed" if closed else "poisson",
        int(load) if closed else None,
        None if closed else load,
        loads=3,
        requests=90,
    )
    return TestResult(
        f"{NAME}[{load:g}]", rows, workload=f"{work}, under load: {pattern}", load=shown
    )


@pytest.fixture
def swept() -> SessionResult:
    """Return a session of unsorted rates; from the third on latency is more than doubled."""
    return session(
        under_load(4, 2.5),
        under_load(1, 1.0),
        under_load(8, 9.0),
        under_load(2, 1.5),
        short_answer(),
    )


def test_loads_are_ordered_and_the_knee_is_the_last_before_latency_doubles(
    swept: SessionResult,
) -> None:
    (curve,) = curves_of_session(swept)
    assert (curve.name, curve.unit) == (NAME, "requests/s")
    assert [point.load for point in curve.points] == [1, 2, 4, 8]
    assert curve.knee is curve.points[1]
    assert curves_of_session(session(under_load(1, 1.0), under_load(2, 1.9)))[0].knee is None


def test_a_process_of_a_load_has_one_load(tmp_path: Path) -> None:
    loads = session(under_load(1, 1.0), under_load(2, 1.5))
    assert "x 1 load of each test" in "\n".join(table_lines(loads, 120, color=False))
    write_html(session_json(loads), tmp_path / "page.html")
    assert "of 1 load a test" in (tmp_path / "page.html").read_text()


def test_only_tests_of_the_same_requests_and_kind_of_load_share_a_curve() -> None:
    assert (
        curves_of_session(session(under_load(1, 1.0), under_load(2, 1.0, work="2 requests"))) == []
    )
    assert curves_of_session(session(under_load(1, 1.0), under_load(2, 1.0, closed=True))) == []
    (curve,) = curves_of_session(
        session(under_load(2, 1.0, closed=True), under_load(4, 1.0, closed=True))
    )
    assert curve.unit == "in flight"


@pytest.mark.parametrize("width", [30, 80, 120])
def test_the_terminal_shows_a_row_for_each_load(swept: SessionResult, width: int) -> None:
    lines = load_curve_lines(swept, width, color=False)
    assert max(map(len, lines)) <= max(width, 40)
    text = "\n".join(lines)
    assert "2 *" in text
    assert "2.50 [2.44, 2.56] s" in text
    assert "* knee: the heaviest load" in " ".join(text.split())
    assert load_curve_lines(session(short_answer()), width, color=False) == []


def test_intervals_are_explained_with_and_without_a_knee(swept: SessionResult) -> None:
    flat = session(under_load(1, 1.0), under_load(2, 1.9))
    for loads, has_knee in ((swept, True), (flat, False)):
        lines = " ".join(load_curve_lines(loads, 80, color=False))
        page = load_curves(session_of(session_json(loads)))
        for shown in (lines, page):
            assert "values are medians [95% intervals], and loads were" in shown
            assert ("* knee: the heaviest load" in shown) == has_knee


def test_a_report_shows_the_same_curve_in_markdown_and_html(swept: SessionResult) -> None:
    report = session_of(session_json(swept))
    (curve,) = curves_of_report(report)
    assert [point.load for point in curve.points] == [1, 2, 4, 8]
    page = session_markdown(report)
    assert "load curve of" in page
    assert "knee: 2 requests/s" in page
    html = load_curves(report)
    assert html.count("<svg") == 2
    assert html.count("<tr>") == 5
    assert "<title>request latency, up to" in html
    assert re.findall(r"<text class=below[^>]*>(\d+)<", html) == ["8", "4", "2", "1"] * 2
    assert load_curves(session_of(session_json(session(short_answer())))) == ""


def test_a_page_has_the_interval_of_every_value(swept: SessionResult) -> None:
    page = session_markdown(session_of(session_json(swept)))
    assert "time per token 90.0 [87.8, 92.3] ms, request latency 9.00 [8.78, 9.23] s" in page


def test_time_per_token_is_shown_where_its_inverse_was_measured(swept: SessionResult) -> None:
    (curve,) = curves_of_session(swept)
    rate = swept.tests[1].rows[2].summary
    assert rate is not None
    assert rate.low is not None
    assert rate.high is not None
    shown = curve.points[0].figures["time_per_output_token"]
    assert shown == pytest.approx((1 / rate.value, 1 / rate.high, 1 / rate.low))
    assert shown.low is not None
    assert shown.high is not None
    assert shown.low < shown.value < shown.high


def test_the_json_has_each_curve_with_its_knee(swept: SessionResult) -> None:
    data = session_json(swept)
    (curve,) = data["load_curves"]
    assert (curve["name"], curve["unit"], curve["knee"]) == (NAME, "requests/s", 2)
    assert [point["load"] for point in curve["points"]] == [1, 2, 4, 8]
    point = curve["points"][1]
    assert (point["nodeid"], point["verdict"]) == (f"{NAME}[2]", "no baseline")
    assert list(point["metrics"]) == [
        "requests_per_sec",
        "time_per_output_token",
        "request_latency",
    ]
    latency = point["metrics"]["request_latency"]
    assert latency["low"] < latency["value"] == 1.5 < latency["high"]
    assert session_json(session(short_answer()))["load_curves"] == []


def test_loads_that_have_no_room_below_the_axis_are_left_out() -> None:
    many = session(*(under_load(rate, 1.0) for rate in (1, 2, 30, 31, 60)))
    html = load_curves(session_of(session_json(many)))
    assert re.findall(r"<text class=below[^>]*>(\d+)<", html) == ["60", "31", "2"] * 2


def test_a_narrow_terminal_gets_the_metrics_in_several_tables(swept: SessionResult) -> None:
    narrow, wide = (load_curve_lines(swept, width, color=False) for width in (36, 120))
    assert len(narrow) > len(wide)
    tables = narrow[: next(index for index, line in enumerate(narrow) if line.startswith("* "))]
    for label in ("requests/s", "request latency"):
        assert sum(label in line for line in tables) == 1


def test_a_name_is_no_markup(swept: SessionResult) -> None:
    named = [replace(test, nodeid=f"t.py::<b>[{n}]") for n, test in enumerate(swept.tests[:2])]
    assert "<b>" not in load_curves(session_of(session_json(session(*named))))


def test_an_interval_of_a_share_ends_at_all_of_them() -> None:
    shown = row("goodput", 1.0, 1.0, 0.4, 1.0, limit=0.9)
    assert shown.summary is not None
    assert shown.summary.low is not None
    assert shown.summary.low < 0.9
    assert shown.summary.high == 1.0
