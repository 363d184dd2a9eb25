"""The HTML page as a file: its content, its permissions, and the reports it refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from page_reports import HOSTILE, hostile_report, whole_report
from report_sessions import row, session

from benchmarks.html_report import large_report
from pytest_llmperf.baselines.errors import BadRecordError
from pytest_llmperf.report.html import write_html
from pytest_llmperf.report.json_report import ReportError, session_json
from pytest_llmperf.session.result import TestResult
from pytest_llmperf.stored_json import ShapeError


class Parsed(HTMLParser):
    """A parser that collects a page's elements, texts, scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in self.raw else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside].append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def written(report: dict[str, Any], folder: Path, **options: Any) -> str:
    write_html(report, folder / "page.html", **options)
    return (folder / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    return Parsed(written(whole_report(), tmp_path_factory.mktemp("whole")))


def test_samples_are_counted_by_what_they_come_from(tmp_path: Path) -> None:
    test = TestResult("t.py::t", (row("end_to_end", 1.0, 1.0, 1.0),), processes=3)
    for unit, plural in (("process", "processes"), ("block", "blocks")):
        page = Parsed(written(session_json(session(test, unit=unit)), tmp_path)).text
        assert f"at least 3 {plural} of 3 iterations a test" in page
        assert f"measured in 3 {plural}" in page


def test_verdicts_reasons_and_intervals_need_no_script(whole: Parsed) -> None:
    for part in (
        "2 regressed",
        "tests/perf/test_chat.py::test_long_prompt",
        "30.0% slower [",
        "≥ 60 tok/s",
        "layers left on the CPU",
        "llmperf doctor --prompt-tokens 38",
        "pytest -m perf --llmperf-against main --llmperf-html report.html",
        "61.0% of the limit of this machine's memory, 139 tok/s",
        "clocks lowered at its power limit in 61 of 120 samples",
        "another process used 0.6 cores: stress (pid 4711)",
        "n_gpu_layers -1",
    ):
        assert part in whole.text
    assert whole.text.count("12 of 31 layers are on the GPU") == 1
    assert sum(tag == "svg" for tag, _ in whole.elements) > 10


def test_the_worst_verdicts_come_first_and_are_open(whole: Parsed) -> None:
    tests = [attrs for tag, attrs in whole.elements if tag == "details" and "data-v" in attrs]
    assert [(test["data-v"], "open" in test) for test in tests] == [
        ("regressed", True),
        ("regressed", True),
        ("no baseline", False),
        ("pass", False),
    ]


def test_the_page_may_run_itself_and_load_nothing(whole: Parsed) -> None:
    (policy,) = [
        attrs["content"] for tag, attrs in whole.elements if "http-equiv" in attrs and tag == "meta"
    ]
    data, script = whole.raw["script"]
    (style,) = whole.raw["style"]
    for kind, content in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in str(policy)
    assert str(policy).startswith("default-src 'none';")
    assert re.fullmatch(r"[A-Za-z0-9+/=.]+", data)
    loading = {"src", "srcset", "action", "style", "onclick", "onload"}
    assert not [element for element in whole.elements if loading & element[1].keys()]
    assert {attrs["href"] for _, attrs in whole.elements if "href" in attrs} == {"#tests"}


def test_names_and_texts_are_never_markup(tmp_path: Path, whole: Parsed) -> None:
    text = written(hostile_report(), tmp_path)
    page = Parsed(text)
    # The same elements with the same attributes; only their texts differ.
    shape = [(tag, sorted(attributes)) for tag, attributes in page.elements]
    assert shape == [(tag, sorted(attributes)) for tag, attributes in whole.elements]
    assert len(page.raw["script"]) == 2
    for character in ("\u2028", "\u2029", "\x1b", "\u202e"):
        assert character not in text
    assert "</script><script>alert(1)</script>" in page.text
    assert HOSTILE not in page.text
    assert r"\u2028\u2029\x1b[31m\udcff\u202e" in page.text


def test_a_stored_report_gives_the_same_page(tmp_path: Path) -> None:
    report = whole_report()
    (tmp_path / "report.json").write_text(json.dumps(report))
    text = written(report, tmp_path)
    write_html(tmp_path / "report.json", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_a_large_session_stays_below_a_megabyte(tmp_path: Path) -> None:
    text = written(large_report(200, 40), tmp_path)
    assert len(text.encode()) < 1_000_000
    assert text.count("<details class=") == 200


def chart_numbers(text: str) -> dict[str, Any]:
    """Return the numbers of a page's charts, as page.js reads them."""
    (data,) = re.findall(r'id="data">([^<]+)<', text)
    objects, values = (zlib.decompress(base64.b64decode(part)) for part in data.split("."))
    left = iter(values)

    def revived(found: dict[str, Any]) -> Any:
        if "q" not in found:
            return found
        low, step, size = found["q"]
        return [None if byte == 255 else low + byte * step for byte in islice(left, size)]

    numbers: dict[str, Any] = json.loads(objects, object_hook=revived)
    assert next(left, None) is None
    return numbers


@pytest.mark.parametrize("tests", [2, 70])
def test_a_gpus_charts_show_its_processes_one_after_the_other(tmp_path: Path, tests: int) -> None:
    report = large_report(tests, 40)
    (gpu,) = chart_numbers(written(report, tmp_path))["tests"][1]["g"]
    assert gpu["s"] == sorted(gpu["s"])
    assert {len(chart["v"]) for chart in gpu["c"]} == {len(gpu["s"])}
    power = report["tests"][1]["telemetry"]["gpus"][0]["counters"]["power_w"]
    assert gpu["c"][0]["r"] == pytest.approx([power["min"], power["max"]], rel=1e-3)


def test_a_change_of_what_is_no_speed_is_worse_or_better(tmp_path: Path) -> None:
    report = whole_report()
    report["tests"][0]["metrics"][0]["unit"] = "J"
    drawn = chart_numbers(written(report, tmp_path))["tests"][0]["m"]
    assert drawn[0]["w"] == ["worse", "better"]
    assert "w" not in drawn[1]


def test_raw_samples_are_kept_on_request(tmp_path: Path) -> None:
    report = large_report(3, 40)
    assert len(written(report, tmp_path, samples=True)) > len(written(report, tmp_path)) + 10_000


def test_a_session_without_tests_has_a_page(tmp_path: Path) -> None:
    report = whole_report()
    report["tests"] = []
    assert "The session has no perf tests." in Parsed(written(report, tmp_path)).text


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    write_html(whole_report(), tmp_path / "a" / "b" / "page.html")
    assert (tmp_path / "a" / "b" / "page.html").stat().st_size > 50_000


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"can't write the HTML report to .*page\.html: .*--html"):
        write_html(whole_report(), tmp_path / "file" / "page.html", option="--html")


def damaged(path: Path, **change: Any) -> Path:
    path.write_text(json.dumps({**whole_report(), **change}))
    return path


def test_a_report_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    file = damaged(tmp_path / "new.json", schema=99)
    with pytest.raises(BadRecordError, match=r"newer plugin \(schema 99"):
        write_html(file, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_damaged_report_is_refused_and_the_damage_named(tmp_path: Path) -> None:
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(whole_report())[:5000])
    with pytest.raises(BadRecordError, match="not JSON"):
        write_html(cut, tmp_path / "page.html")
    report = whole_report()
    report["tests"][0]["metrics"][1]["low"] = "low"
    with pytest.raises(ShapeError, match=r"tests\[0\]\.metrics\[1\]\.low: expected a number"):
        write_html(report, tmp_path / "page.html")
    report = whole_report()
    report["tests"][0]["telemetry"]["gpus"][0]["course"]["counters"]["power_w"].pop()
    with pytest.raises(ShapeError, match=r"telemetry.*power_w.*expected 120 values"):
        write_html(report, tmp_path / "page.html")
    with pytest.raises(BadRecordError, match="tests: missing"):
        write_html(_without_tests(tmp_path / "none.json"), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def _without_tests(path: Path) -> Path:
    report = whole_report()
    del report["tests"]
    path.write_text(json.dumps(report))
    return path


def test_tests_that_were_not_measured_are_shown_and_counted(tmp_path: Path) -> None:
    report = whole_report()
    where = {"file": "tests/test_a.py", "line": 7}
    report["unmeasured"] = [
        {"nodeid": "t.py::skips", "outcome": "skipped", "reason": "no card", "location": None},
        {"nodeid": "t.py::fails", "outcome": "failed", "reason": "1 < 2", "location": where},
    ]
    page = Parsed(written(report, tmp_path))
    tests = [attrs for tag, attrs in page.elements if tag == "details" and "data-v" in attrs]
    assert [(test["data-v"], "open" in test) for test in tests] == [
        ("regressed", True),
        ("regressed", True),
        ("not measured", True),
        ("no baseline", False),
        ("pass", False),
        ("skipped", False),
    ]
    assert len({test["id"] for test in tests}) == 6
    for part in ("1 not measured", "1 skipped", "t.py::fails 1 < 2", "tests/test_a.py:7"):
        assert part in page.text


def test_a_test_is_open_if_its_session_failed_it(tmp_path: Path) -> None:
    report = whole_report()
    report["session"]["fails"] += ["no baseline"]
    page = Parsed(written(report, tmp_path))
    tests = [attrs for tag, attrs in page.elements if tag == "details" and "data-v" in attrs]
    assert [t["data-v"] for t in tests if "open" in t] == ["regressed"] * 2 + ["no baseline"]


def test_numbers_that_nothing_measures_are_refused(tmp_path: Path) -> None:
    """They would make charts and axes overflow."""
    report = whole_report()
    report["tests"][0]["metrics"][0]["samples"][0][0] = 1e300
    with pytest.raises(ShapeError, match=r"samples\[0\]\[0\]: expected a number up to 1e\+100"):
        write_html(report, tmp_path / "page.html")
    report = whole_report()
    report["tests"][0]["metrics"][0]["tolerance"] = -1
    with pytest.raises(ShapeError, match="tolerance: expected a number of 0 or more, got -1"):
        write_html(report, tmp_path / "page.html")


def test_a_session_of_wild_samples_has_a_page(tmp_path: Path) -> None:
    """The interval of so few and so different samples has no finite end to draw."""
    wild = row("end_to_end", 1.0, 1.0, base=[1e18, 1e-15])
    data = session_json(session(TestResult("t.py::t", (wild,)), against="main"))
    assert data["tests"][0]["metrics"][0]["baseline"]["high"] is None
    assert "t.py::t" in written(data, tmp_path)
