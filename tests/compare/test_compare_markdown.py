"""A comparison as a comment on a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
from command_outputs import Output
from compare_sessions import CHAT, LONG, Project, metrics

from pytest_llmperf.report.markdown import code, escape

Compare = Callable[..., Output]

HOSTILE = [
    "a|b",
    "a\\|b",
    "`x` ``y``",
    "</code></details><script>alert(1)</script>",
    "&amp;&#124;",
    "[click](http://evil.example)",
    "![img](http://evil.example/x.png)",
    "https://evil.example www.evil.example _www.evil.example",
    "**bold** __init__ ~~gone~~ ___x",
    "line\nbreak\ttab\x1b[31m",
    "right\u202eto left",
    "<!-- hidden -->",
    "$x$ ^1 [^1] [x]: y",
    ":smile: a:b",
    "\ud800",
]


@pytest.fixture
def comment(project: Project, llmperf_compare: Compare) -> Callable[..., str]:
    """Compare the newest commit with its parent, and return the Markdown."""

    def run(*words: str) -> str:
        return llmperf_compare("HEAD~1", "HEAD", "--format", "markdown", *words).out

    return run


def test_the_verdict_comes_first(project: Project, comment: Callable[..., str]) -> None:
    project.base()
    project.record(11, 1.10)
    project.commit()
    assert comment().splitlines()[0] == "### llmperf: regressed (1 test, 3 checks: 3 regressed)"


def test_a_pass_is_told_as_one(project: Project, comment: Callable[..., str]) -> None:
    project.base()
    project.record(11)
    project.commit()
    assert comment().splitlines()[0] == "### llmperf: pass (1 test, 3 checks: 3 pass)"


def test_what_is_inconclusive_is_not_told_as_a_pass(
    project: Project, comment: Callable[..., str]
) -> None:
    project.base(1)
    project.record(11)
    project.commit()
    title = "(1 test, 3 checks: 3 inconclusive)"
    assert comment().splitlines()[0] == f"### llmperf: inconclusive {title}"
    assert comment("--strict").splitlines()[0] == f"### llmperf: inconclusive {title}"


def test_the_worst_is_on_top_and_the_rest_folded_away(
    project: Project, comment: Callable[..., str]
) -> None:
    project.base(tests=(CHAT, LONG))
    mixed = {**metrics(1.0), "first_token": metrics(1.3)["first_token"]}
    project.record(11, tests=(CHAT,), metrics=mixed)
    project.record(11, 1.5, tests=(LONG,))
    project.commit()
    top, folded = comment().split("<details>")
    rows = [line for line in top.splitlines() if line.startswith("| **regressed**")]
    assert [row.split("|")[3].strip() for row in rows] == [
        "first token",
        "end to end",
        "tokens/s",
        "first token",
    ]
    assert "test&#95;long" not in top
    assert all("**" not in row for row in folded.splitlines() if row.startswith("|"))
    assert folded.rstrip().endswith("</details>")
    assert "prefill" in folded
    assert "prefill" not in top


def test_every_row_has_every_cell(project: Project, comment: Callable[..., str]) -> None:
    hostile = tuple(f"tests/test_x.py::test_x[{name}]" for name in HOSTILE)
    project.base(tests=hostile, summary="1 | request `x`")
    project.record(11, 1.2, tests=hostile, summary="1 | request `x`")
    project.commit("Subject with | and `x` and <b>")
    text = comment()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == len(hostile) * 4 + 4
    assert {line.count("|") for line in rows} == {8}
    assert text.count("<details>") == text.count("</details>") == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_text_means_nothing_but_itself(text: str) -> None:
    for written in (escape(text), code(text).removeprefix("<code>").removesuffix("</code>")):
        bare = written.replace("<!-- -->", "")
        assert not re.search(r"[|`<>*~$!\\#@\n\x1b]", re.sub(r"&#\d+;", "", bare))
        assert "://" not in bare
        assert "www." not in bare
        assert not re.search(r"\]\(|\]:|\[\^", bare)


def test_what_is_escaped_reads_as_it_was() -> None:
    text = "a|b `c` <d> [e](f) g_h __i__ 85 [83.7, 88.8] tok/s"
    assert html.unescape(escape(text)) == text


def test_plain_text_stays_readable() -> None:
    name = "tests/perf/test_chat.py::TestChat::test_short_answer"
    assert code(name) == f"<code>{name}</code>"
    assert escape("85.1 [83.7, 2.1% slower] tok/s: fine") == "85.1 [83.7, 2.1% slower] tok/s: fine"


def test_nobody_is_called(project: Project, comment: Callable[..., str]) -> None:
    assert escape("@team fixes #12") == "&#64;\u200bteam fixes &#35;\u200b12".replace(
        "\u200b", "&#8203;"
    )


def test_unlike_sides_have_no_verdict(project: Project, llmperf_compare: Compare) -> None:
    base = project.record(1)
    judged = project.record(2, 3.0, key="ryzen-8c_cpu")
    out = llmperf_compare("--any", "--format", "markdown", str(base), str(judged)).out
    assert out.startswith("### llmperf: not judged (1 test: 1 test not judged)\n")
    assert "Not judged, since it differs: cpu: Xeon → Ryzen." in out
    assert "**" not in out


def test_a_comment_is_never_too_long_to_be_taken(
    project: Project, comment: Callable[..., str]
) -> None:
    tests = tuple(f"tests/test_x.py::test_x[{'n' * 80}-{number}]" for number in range(200))
    project.base(3, tests=tests)
    project.record(11, 1.5, tests=tests)
    project.record(12, tests=("tests/test_y.py::test_y",))
    project.commit()
    text = comment()
    assert len(text) < 60_000
    assert re.search(r"\nLeft out here, to keep this short: \d+ failing or open rows, ", text)
    assert "`llmperf compare --format json` has all of it." in text
    assert text.rstrip().endswith("</details>")
    top = text.split("<details>")[0]
    assert top.count("\n| **regressed**") > 100


def test_a_refusal_is_told_too(project: Project, comment: Callable[..., str]) -> None:
    project.base()
    project.commit("<b>|")
    text = comment()
    assert text.startswith("### llmperf: not compared\n")
    assert "hold the same sessions" in text
    assert "<b>" not in text


def test_what_the_text_says_beside_the_verdicts_is_said_too(
    project: Project, comment: Callable[..., str]
) -> None:
    project.base(tests=(CHAT, LONG))
    project.record(11, 1.10, tests=(CHAT,))
    project.commit()
    top, folded = (
        html.unescape(re.sub("<.*?>", "", part)) for part in comment().split("<details>")
    )
    assert "measure both sides in one session: pytest -m perf --llmperf-against 'HEAD~1'." in top
    effect = r"\d+\.\d% slower \[\d+\.\d% to \d+\.\d%\], more than"
    assert re.search(f"regressed: tokens/s: {effect}", top)
    assert "- chance of a false regressed verdict: at most 1% per comparison\n" in folded
    assert f"- removed: {LONG}\n" in folded


def test_added_tests_are_counted_on_top_and_named_below(
    project: Project, comment: Callable[..., str]
) -> None:
    project.base()
    project.record(11, tests=(CHAT, LONG))
    project.commit()
    top, folded = comment().split("<details>")
    assert "1 test added." in top
    assert f"- added: {code(LONG)}" in folded


def test_a_removed_test_is_in_the_headline(project: Project, comment: Callable[..., str]) -> None:
    project.base(tests=(CHAT, LONG))
    project.record(11, tests=(CHAT,))
    project.commit()
    assert comment().splitlines()[0] == (
        "### llmperf: pass (1 test, 3 checks: 3 pass, 1 test removed)"
    )
