"""The page of a session, read as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from command_outputs import Output
from markdown_it import MarkdownIt
from report_variants import HOSTILE, case, check, comparison, of_verdicts, variant

from pytest_llmperf.report.forms.markdown import session_markdown
from pytest_llmperf.report.markdown import clipped, escape
from pytest_llmperf.report.reported import session_of
from pytest_llmperf.text import printable

Report = Callable[..., Output]


class Reader(HTMLParser):
    """A parser that collects the tables, text and tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._in_cell = False
        self.feed(MarkdownIt("gfm-like", {"linkify": False}).render(page))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data


def page(data: dict[str, Any], *longest: int) -> str:
    return session_markdown(session_of(data), *longest)


def test_the_real_session(real: dict[str, Any]) -> None:
    text = page(real)
    top, _, folded = text.partition("<details>")
    title, _, model, *_ = top.splitlines()
    assert title.startswith("### llmperf: missed (3 tests, 5 checks: 1 missed, 4 no baseline, ")
    assert model.startswith("Model tiny-llama")
    rows = Reader(top).rows
    assert [row[0] for row in rows] == ["verdict", "not measured", "missed"]
    assert rows[1][1] == "tests/test_real.py::test_wrong_answer"
    assert rows[2][1] == f"{real['tests'][1]['nodeid']}"
    assert rows[2][2:5:2] == ["first token", "<=1 ns"]
    assert "failed, not measured: AssertionError" in Reader(top).text
    assert "missed: first token: target missed by " in Reader(top).text
    assert "skipped, not measured: not today" in Reader(folded).text
    assert folded.rstrip().endswith("</details>")


def test_what_needs_a_look_is_on_top_the_worst_first(real: dict[str, Any]) -> None:
    kinds = ("pass", "inconclusive", "no baseline", "missed", "invalid", "regressed", "error")
    data = of_verdicts(real, *kinds)
    data["tests"].append(
        case(data, "t.py::far", check("regressed", change=0.3), check("improved", change=-0.1))
    )
    top, _, folded = page(data).partition("<details>")
    assert [row[0] for row in Reader(top).rows[1:]] == [
        "error",
        "invalid",
        "regressed",
        "regressed",
        "missed",
        "inconclusive",
    ]
    assert [row[6] for row in Reader(top).rows[3:5]] == ["30.0% slower", "-"]
    assert [row[0] for row in Reader(folded).rows[1:]] == ["no baseline", "pass", "improved"]
    assert "10.0% faster" in folded


def test_all_of_a_good_session_is_folded_away(real: dict[str, Any]) -> None:
    text = page(of_verdicts(real, "pass", "improved"))
    assert text.startswith("### llmperf: pass (2 tests, 2 checks: 1 pass, 1 improved)\n")
    assert "|" not in text.partition("<details>")[0]


def test_why_it_failed_is_on_top(real: dict[str, Any]) -> None:
    cause: dict[str, Any] = {"title": "layers on the CPU", "evidence": "12 of 31", "certain": True}
    cause["change"] = "n_gpu_layers: -1"
    data = variant(
        real,
        case(
            real,
            "t.py::t",
            check("regressed", notes=["also missed: by 7%"]),
            causes=["llm.n_batch: 512 -> 64", "12 of 31"],
            differences=["llm.n_batch: 512 -> 64", "plugin: 1 -> 2"],
            findings=["3 stalled iterations"],
            diagnosis=[cause],
        ),
        against="main",
        base_commit="0123456789abcdef",
        busy=["a compiler used 2 cores"],
    )
    top = Reader(page(data).partition("<details>")[0]).text
    for text in (
        "regressed: first token: the regressed was claimed; also missed: by 7%",
        "likely cause: llm.n_batch: 512 -> 64",
        "why it may be slow: layers on the CPU: 12 of 31; change: n_gpu_layers: -1",
        "3 stalled iterations",
        "Compared with main (0123456789ab), run in the same session.",
        "What the machine did: a compiler used 2 cores.",
        "plugin: 1 -> 2",
    ):
        assert text in top
    # A cause is named only once.
    assert top.count("llm.n_batch: 512 -> 64") == top.count("12 of 31") == 1


def test_what_disturbed_the_machine_is_said_once_for_all_tests(real: dict[str, Any]) -> None:
    culprit = "process 4242 (stress) used 2.0 of 2 cores (busy_cores)"
    invalid = check("invalid", claim=f"{culprit} (and 1 more like it)")
    entry = {"name": "busy_cores", "severity": "invalid", "text": culprit}
    data = variant(
        real, *(case(real, f"t.py::{n}", invalid) for n in "abc"), busy=[culprit], fitness=[entry]
    )
    text = Reader(page(data)).text
    assert text.count("stress") == 1
    assert text.count("invalid: first token: the machine was disturbed (busy_cores)") == 3


def test_names_are_data(real: dict[str, Any]) -> None:
    tests = [
        case(real, f"test_x.py::test_x[{name}]", check("regressed", label=name, claim=name))
        for name in HOSTILE
    ]
    for test, name in zip(tests, HOSTILE, strict=True):
        test["findings"] = [name]
    data = variant(real, *tests, model=" ".join(HOSTILE[:4]), against=HOSTILE[3], busy=[HOSTILE[5]])
    text = page(data)
    read = Reader(text)
    assert {len(row) for row in read.rows} == {7}
    assert sorted(row[1] for row in read.rows[1:]) == sorted(
        f"test_x.py::test_x[{printable(name)}]" for name in HOSTILE
    )
    plain = read.text.replace("\u200b", "")
    for name in HOSTILE:
        assert plain.count(" ".join(printable(name).split())) >= 3
    allowed = {"h3", "p", "br", "code", "table", "thead", "tbody", "tr", "th", "td", "strong", "ul"}
    assert set(read.tags) - allowed == {"li", "details", "summary"}
    assert text.count("<!--") == text.count("<!-- -->")
    # Outside code nobody is mentioned and no text becomes a picture.
    assert not re.search(r"[@#!~]\w|:smile:", re.sub(r"<code>.*?</code>", "", plain_page(text)))


def plain_page(text: str) -> str:
    """Return the text in which a program looks for names, with its zero-width spaces."""
    return re.sub(r"&#(\d+);", lambda match: chr(int(match[1])), text)


@pytest.mark.parametrize("longest", [4_000, 60_000])
def test_a_page_is_never_too_long(real: dict[str, Any], longest: int) -> None:
    names = [f"tests/test_x.py::test_x[{'@&|' * 300}-{number}]" for number in range(300)]
    failing = [case(real, name, check("regressed"), findings=["x" * 5_000] * 9) for name in names]
    passing = [case(real, name, check("pass")) for name in names]
    data = variant(real, *passing, *failing, model="m&" * 9_000, busy=["&" * 70_000] * 3)
    data["session"]["notes"] = ["note &" * 900] * 99
    text = page(data, longest)
    assert len(text) <= longest
    assert text.startswith(
        "### llmperf: regressed (600 tests, 600 checks: 300 regressed, 300 pass)"
    )
    cut = re.search(
        r"\nLeft out here, to keep this short: .*?(\d+) failing or open rows, \d+ other rows and "
        r"\d+ explanations\. The session's JSON file has all of it\.\n",
        text,
    )
    assert cut is not None
    assert int(cut[1]) == 300 - text.count("| **regressed** |")
    assert 0 < int(cut[1]) < 300
    assert text.rstrip().endswith("</details>")


def test_a_shorter_page_can_be_asked_for(real: dict[str, Any], report: Report) -> None:
    data = of_verdicts(real, *["regressed"] * 200)
    assert 3_000 < len(report(data, "--markdown", "--max-chars", "5,000").out) <= 5_000
    assert "expected 4,000 or more, got 10" in report(data, "--markdown", "--max-chars", "10").err
    assert "expected a number" in report(data, "--markdown", "--max-chars", "few").err


def test_a_long_name_keeps_its_ends() -> None:
    assert clipped("a" * 200 + "z" * 200, 21) == "a" * 9 + "..." + "z" * 9


def test_an_emojis_name_stays_text() -> None:
    assert "\u200b" in escape(":smile:").replace("&#8203;", "\u200b")
    assert escape("tokens/s: 5 of 6") == "tokens/s: 5 of 6"


def test_a_failing_row_has_room_for_its_change_only(real: dict[str, Any]) -> None:
    proof = {"effect": 0.3, "low": 0.25, "high": 0.35}
    claim = "30.0% slower [25.0% to 35.0%], proven"
    failing = check("regressed", change=0.3, proof=proof, claim=claim)
    text = page(variant(real, case(real, "t.py::a", failing)))
    assert Reader(text).rows[1][6] == "30.0% slower"
    assert claim in text


def test_a_changes_interval_is_that_of_the_comparison(real: dict[str, Any]) -> None:
    proof = {"effect": 0.3, "low": 0.25, "high": 0.35}
    data = variant(
        real,
        case(real, "t.py::a", check("pass", change=0.3, proof=proof)),
        # Its proof is of the distance from the target.
        case(real, "t.py::b", check("missed", change=0.3, proof=proof, strategy="target")),
    )
    changes = {row[1]: row[6] for row in Reader(page(data)).rows[1:] if len(row) > 6}
    assert changes["t.py::a"].startswith("30.0% slower [")
    assert changes["t.py::b"] == "30.0% slower"


def test_a_comparison_names_its_sides(real: dict[str, Any]) -> None:
    text = page(
        comparison(of_verdicts(real, "pass"), removed=["t.py::gone"], why_not="<b>", unlike=["x|y"])
    )
    read = Reader(text)
    assert "Judged HEAD, compared with main (3 stored sessions)." in read.text
    assert "Not compared: <b>." in read.text
    assert "Not judged, since it differs: x|y." in read.text
    assert "removed: t.py::gone" in read.text


def test_a_comparison_says_what_is_about_all_of_its_tests_once(real: dict[str, Any]) -> None:
    differs = {"differences": ["plugin: 1 -> 2"]}
    tests = [case(real, name, check("improved"), **differs) for name in ("t.py::a", "t.py::b")]
    command = "pytest -m perf --llmperf-against 'main~1'"
    fields = {"remarks": ["2 checks of `x`"], "command": command, "added": ["t.py::new"]}
    text = Reader(page(comparison(variant(real, *tests), **fields))).text
    assert f"For the sharpest answer, measure both sides in one session: {command}." in text
    assert "1 test added." in text
    assert "added: t.py::new" in text
    assert "2 checks of `x`" in text
    assert text.count("plugin: 1 -> 2") == text.count("differs from the base") == 1


def test_an_improvement_is_explained(real: dict[str, Any]) -> None:
    text = page(of_verdicts(real, "pass", "improved"))
    assert "improved: first token: the improved was claimed" in text
    assert "the pass was claimed" not in text
