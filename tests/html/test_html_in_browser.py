"""The page in Chromium: charts, filters, hostile names, sizes, schemes, print, no script.

``LLMPERF_SCREENSHOTS=docs/images`` writes the pictures of docs/html-report.md there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_reports import hostile_report, whole_report

from benchmarks.html_report import large_report

if TYPE_CHECKING:
    from pages import Page

Show = Callable[..., "Page"]
PICTURES = os.environ.get("LLMPERF_SCREENSHOTS")


@pytest.fixture
def look(show: Show) -> Iterator[Show]:
    """Open report pages and check that they log no errors and request only themselves."""
    seen: list[Page] = []

    def check() -> None:
        for page in seen:
            assert page.errors() == []
            assert page.requests() == [page.address]
            assert {path for path in page.asked if not page.address.endswith(path)} == set()
        seen.clear()

    def opened(*arguments: object, **options: object) -> Page:
        check()
        seen.append(show(*arguments, **options))
        return seen[0]

    yield opened
    check()


def picture(page: Page, name: str, *what: object) -> None:
    if PICTURES:
        page.picture(Path(PICTURES, name), *what)


def test_every_chart_is_drawn(look: Show) -> None:
    page = look(whole_report())
    page.open_all()
    titles = page.visible("figcaption b")
    assert {"Pair by pair", "Distribution", "Token by token", "History"} <= set(titles)
    assert {"GPU 0 power", "GPU 0 temperature", "GPU 0 clock"} <= set(titles)
    painted = page.painted()
    assert len(painted) == len(titles)
    assert all(painted)
    captions = " ".join(page.visible("figcaption"))
    assert "1 stall (gaps over 3 times the median)" in captions
    assert "30 earlier sessions; 7.3% slower from 2026-10-19" in captions
    picture(page, "html-report-charts.png", "#t2", 960)


def test_a_change_of_what_is_no_speed_is_worse_or_better(look: Show) -> None:
    report = whole_report()
    for test in report["tests"]:
        for metric in test["metrics"]:
            metric["unit"] = "J"
    page = look(report)
    page.open_all()
    assert "7.3% worse from 2026-10-19" in " ".join(page.visible("figcaption"))


def test_charts_are_drawn_when_they_are_seen(look: Show) -> None:
    page = look(large_report(40, 12), height=700)
    page.js("document.getElementById('close').click()")
    assert page.count("canvas") == page.count(".charts[data-drawn] canvas")
    before = page.count(".charts[data-drawn]")
    page.js("document.querySelectorAll('details.test')[39].open = true")
    page.see_everything()
    assert page.count(".charts[data-drawn]") == before + 1


def test_another_metric_is_a_key_away(look: Show) -> None:
    page = look(whole_report())
    page.see_everything()
    first = ".charts .choice input"
    drawn = page.visible(".charts figcaption")[0]
    page.focus(first)
    page.keys("ARROW_DOWN")
    assert page.js(f"return document.querySelectorAll('{first}')[1].checked")
    assert page.visible(".charts figcaption")[0] != drawn
    assert all(page.painted())


def test_filters_choose_by_verdict_and_by_name(look: Show) -> None:
    page = look(whole_report())
    assert page.text("#shown") == "4 of 4 tests shown"
    page.focus("#name")
    page.keys("chat summary")
    assert page.visible("details.test:not([hidden]) .name") == [
        "tests/perf/test_chat.py::test_summary"
    ]
    page.js("document.getElementById('name').value = ''")
    page.focus("#filters [value=regressed]")
    page.keys(" ")
    assert page.text("#shown") == "2 of 4 tests shown"
    assert "regressed" not in page.visible("details.test:not([hidden]) > summary > b")


def test_the_keyboard_reaches_everything_and_shows_where_it_is(look: Show) -> None:
    page = look(whole_report())
    page.js("document.getElementById('close').click(); document.activeElement.blur()")
    reached = []
    for _ in range(14):
        page.keys("TAB")
        reached.append(page.js("return document.activeElement.outerHTML.slice(0, 14)"))
        outline = "const at = getComputedStyle(document.activeElement); return at.outlineStyle"
        assert page.js(outline) != "none", reached
    assert reached[0].startswith("<a class")
    summaries = [place for place in reached if place.startswith("<summary")]
    assert len(summaries) >= 4
    page.js("document.querySelector('details.test > summary').focus()")
    page.keys("ENTER")
    assert page.js("return document.querySelector('details.test').open")


def test_hostile_names_stay_text(look: Show) -> None:
    page = look(hostile_report())
    page.open_all()
    assert all(page.painted())
    assert page.count("img") == 0
    assert page.count("body script") == 2
    assert "</script><script>alert(1)</script>" in page.text("details.test .name")
    labels = " ".join(page.visible(".u-legend, figcaption, .choice"))
    assert "<img src=x onerror=alert(2)>" in labels
    assert page.overflow() <= 0


def test_ten_thousand_points_are_drawn(look: Show) -> None:
    report = large_report(1, 40)
    metric, rng = report["tests"][0]["metrics"][0], random.Random(2)
    for side in ("samples", "base_samples"):
        metric[side] = [[85 * rng.gauss(1, 0.01) for _ in range(25)] for _ in range(200)]
    page = look(report, samples=True)
    page.open_all()
    assert "10000 iterations by process" in " ".join(page.visible("figcaption"))
    assert all(page.painted())


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_it_without_scrolling_sideways(look: Show, dark: bool) -> None:
    page = look(whole_report(), width=360, height=780, dark=dark)
    page.open_all()
    assert page.overflow() <= 0
    assert all(page.painted())
    page.js("scrollTo(0, 0)")
    if not dark:
        picture(page, "html-report-narrow.png", "body", 1300)


def test_dark_and_light_follow_the_system(look: Show) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = look(whole_report()).js(ground)
    page = look(whole_report(), dark=True)
    dark = page.js(ground)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(21, 24, 28)")
    page.see_everything()
    assert all(page.painted())
    picture(page, "html-report-dark.png", "#t0", 1300)


def test_without_a_script_the_essentials_are_there(look: Show) -> None:
    page = look(whole_report(), script=False)
    assert page.count("canvas") == 0
    assert page.visible("#filters") == []
    shown = " ".join(page.visible("details.test"))
    assert "30.0% slower [" in shown
    assert "tests/perf/test_chat.py::test_summary" in shown
    assert len(page.visible("details.test[open] .metrics svg")) > 5


def test_print_opens_every_test(look: Show) -> None:
    page = look(whole_report(), script=False, media="print")
    closed = page.visible("details.test:not([open]) .metrics tbody th")
    assert "first token" in closed
    assert page.visible("#filters, .skip:focus") == []
    assert page.printed().startswith(b"%PDF")


def test_the_top_of_the_page(look: Show) -> None:
    page = look(whole_report(), height=1150)
    page.see_everything()
    page.js("scrollTo(0, 0)")
    assert page.text("h1") == "LLM performance"
    assert page.overflow() <= 0
    picture(page, "html-report.png", "body", 1100)
