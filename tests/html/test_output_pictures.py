"""The terminal's output and a pull request's comment in Chromium: what fits, and how it looks.

``LLMPERF_SCREENSHOTS=docs/images`` writes the pictures of docs/verdicts.md and docs/report.md.
The text of each is kept in ``shown/``, so that outdated pictures are noticed.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from _pytest._io import TerminalWriter
from markdown_it import MarkdownIt
from page_reports import paired
from report_sessions import session, short_answer
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from pytest_llmperf.cli import main
from pytest_llmperf.plugin.verdict_reports import VerdictRepr
from pytest_llmperf.report.failure import failure_text
from pytest_llmperf.report.json_report import session_json
from pytest_llmperf.report.table import render_table

if TYPE_CHECKING:
    from pages import Browser, Page

    from pytest_llmperf.session.result import SessionResult, TestResult

Open = Callable[[str], "Page"]
PICTURES = os.environ.get("LLMPERF_SCREENSHOTS")
SHOWN = Path(__file__).parent / "shown"
MAKE_AGAIN = "LLMPERF_SCREENSHOTS=docs/images make test ARGS=tests/html WORKERS=0"
#: In bytes. GitHub takes images of any size, readers do not.
LARGEST = 150_000
COLUMNS = 80
WIDE = 120
SUMMARY = "tests/perf/test_chat.py::test_summary"
CRASH = SimpleNamespace(path="tests/perf/test_chat.py", lineno=24)
_TERMINAL = """\
<!doctype html><meta charset="utf-8"><title>terminal</title><style>
body {{ margin: 0; width: max-content }}
pre {{ margin: 0; padding: 16px 20px; font: 14px/1.35 "DejaVu Sans Mono", monospace;
  color: #d9d9d9; background: #16181d }}
</style><pre>{code}</pre>"""
_COMMENT = """\
<!doctype html><meta charset="utf-8"><title>comment</title><style>
body {{ margin: 0; padding: 20px; width: 900px; background: #fff; color: #1f2328;
  font: 14px/1.5 "DejaVu Sans", sans-serif }}
h3 {{ margin: 0 0 16px; font-size: 18px }}
table {{ border-collapse: collapse; margin: 16px 0 }}
td, th {{ border: 1px solid #d1d9e0; padding: 6px 12px; text-align: left }}
tr:nth-child(2n) {{ background: #f6f8fa }}
code {{ background: #eff1f3; border-radius: 6px; padding: 2px 4px; overflow-wrap: anywhere;
  font: 12px "DejaVu Sans Mono", monospace }}
pre {{ background: #f6f8fa; padding: 12px }}
</style>{page}"""


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Open:
    """Return a function that opens HTML text in the browser."""

    def write_and_open(html: str) -> Page:
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        return browser.open(file.as_uri(), [])

    return write_and_open


def picture(page: Page, name: str, selector: str) -> None:
    """Write a picture for the docs where asked, and compare the page with its stored text."""
    if PICTURES:
        file = Path(PICTURES, f"{name}.png")
        page.picture(file, selector, 1400)
        assert file.stat().st_size < LARGEST
    same_text(page, name, selector)


def same_text(page: Page, name: str, selector: str) -> None:
    """Compare a page with its text in ``shown/``, which is written together with the pictures."""
    lines = [line.rstrip() for line in page.text(selector).strip().splitlines()]
    text, file = "\n".join(lines) + "\n", SHOWN / f"{name}.txt"
    if PICTURES:
        SHOWN.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"make the pictures again: {MAKE_AGAIN}"


def passing() -> SessionResult:
    """Return three tests, a little faster than ten stored sessions."""
    names = ("test_short_answer", "test_long_prompt", "test_summary")
    tests = (
        replace(short_answer(1 - n / 100), nodeid=f"tests/perf/test_chat.py::{name}")
        for n, name in enumerate(names, 1)
    )
    return session(*tests)


def slower() -> TestResult:
    """Return a test that is 12% slower than its merge base, with the setting that explains it."""
    changed = "llm.n_ubatch: base 512, candidate 32"
    return replace(paired(SUMMARY, 1.12), differences=(changed,), causes=(changed,))


def failing() -> SessionResult:
    return session(paired(slower=1.004), slower())


def titled(title: str, mark: str, width: int = COLUMNS) -> str:
    """Return a title line like pytest's, as wide as the terminal."""
    return f" {title} ".center(width, mark)


def ansi(*lines: str, width: int = COLUMNS) -> str:
    """Return lines with ANSI colours as the HTML of a terminal."""
    console = Console(file=io.StringIO(), width=width, record=True, legacy_windows=False)
    console.print(Text.from_ansi("\n".join(lines)), overflow="ignore", no_wrap=True)
    code = console.export_html(theme=MONOKAI, code_format="{code}", inline_styles=True)
    return _TERMINAL.format(code=code)


def test_a_passing_session_fits_its_terminal_and_is_green(opened: Open) -> None:
    table = render_table(passing(), COLUMNS, color=True)
    page = opened(ansi("$ pytest -m perf", titled("LLM performance", "="), *table))
    lines = page.text("pre").rstrip().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= COLUMNS
    assert "3 tests, 9 checks: 9 pass" in page.text("pre")
    assert [text.strip() for text in page.visible("pre span")].count("pass") == 9
    picture(page, "terminal-pass", "pre")


def test_the_whole_table_of_a_wide_terminal_has_intervals_and_evidence(opened: Open) -> None:
    table = render_table(passing(), WIDE, color=True, verbosity=1)
    title = titled("LLM performance", "=", WIDE)
    page = opened(ansi("$ pytest -m perf -v", title, *table, width=WIDE))
    lines = page.text("pre").rstrip().splitlines()
    assert COLUMNS < max(map(len, lines[2:])) <= WIDE
    assert "evidence" in page.text("pre")
    assert [text.strip() for text in page.visible("pre span")].count("pass") == 9
    picture(page, "terminal-verbose", "pre")


def failing_page(opened: Open, width: int) -> Page:
    """Open the output of a session in which one test is slower than the main branch."""
    command = "pytest -m perf --llmperf-against main"
    story = io.StringIO()
    writer = TerminalWriter(story)
    writer.fullwidth, writer.hasmarkup = width, True
    VerdictRepr(failure_text(slower(), command=command), CRASH).toterminal(writer)  # type: ignore[arg-type]
    return opened(
        ansi(
            f"$ {command}",
            titled("FAILURES", "=", width),
            f"\x1b[31;1m{titled('test_summary', '_', width)}\x1b[0m",
            *story.getvalue().splitlines(),
            titled("LLM performance", "=", width),
            *render_table(failing(), width, color=True, failures=(SUMMARY,)),
            width=width,
        )
    )


@pytest.mark.parametrize("width", [COLUMNS, WIDE])
def test_a_failing_session_shows_once_what_got_slower_and_why(opened: Open, width: int) -> None:
    page = failing_page(opened, width)
    lines = page.text("pre").rstrip().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(page.text("pre").split())
    assert text.count("tokens/s: 12.0% slower [10.9% to 13.1%]") == 1
    assert "llm.n_ubatch: base 512, candidate 32" in text
    if width == COLUMNS:
        picture(page, "terminal-regressed", "pre")
    else:
        same_text(page, "terminal-regressed-wide", "pre")


def test_a_comment_shows_the_worst_first_and_folds_the_rest(opened: Open, tmp_path: Path) -> None:
    page = opened(_COMMENT.format(page=comment(failing(), tmp_path)))
    assert page.text("h3").startswith("llmperf: regressed")
    rows = page.visible("body > table tbody tr")
    assert rows
    assert all("regressed" in row for row in rows)
    assert page.count("details:not([open])") >= 1
    assert page.overflow() == 0
    picture(page, "comment", "body")


def comment(result: SessionResult, folder: Path) -> str:
    """Return the page of ``llmperf report --markdown`` for a session, rendered as on GitHub."""
    report, page = folder / "session.json", folder / "comment.md"
    report.write_text(json.dumps(session_json(result)), encoding="utf-8")
    assert main(["report", str(report), "--markdown", "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    rendered: str = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    return rendered
