"""A session on a terminal, and its comment on a pull request, as pictures of the real output.

``LLMPERF_SCREENSHOTS=docs/images`` writes the pictures of the docs there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt
from page_reports import whole_report

from examples.make_chat import main as make_chat
from pytest_llmperf.report.forms.markdown import session_markdown
from pytest_llmperf.report.forms.reported import session_of

if TYPE_CHECKING:
    from pages import Browser, Page

OpenHtml = Callable[..., "Page"]
PICTURES = os.environ.get("LLMPERF_SCREENSHOTS")
#: About what GitHub's style sheet does to a comment.
COMMENT_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 16px; color: #1f2328 }
h3 { font-size: 18px; margin: 0 0 12px }
table { border-collapse: collapse; display: block; overflow: auto }
th, td { border: 1px solid #d1d9e0; padding: 5px 12px }
tr:nth-child(2n) td { background: #f6f8fa }
code { background: #eff1f3; border-radius: 6px; font-size: 85%; padding: 2px 5px }
li { margin: 3px 0 }
"""
TERMINAL_STYLE = """
body { background: #16181d; margin: 16px; width: max-content }
pre { color: #d6d9de; font: 14px/1.35 'DejaVu Sans Mono', monospace; margin: 0 }
"""
#: Lines of pytest's header that say what else is installed.
_HEADER = re.compile(r"(platform|benchmark:|rootdir:|configfile:|plugins:|asyncio:) ?.*")


@pytest.fixture
def open_html(browser: Browser, served: tuple[Path, str, list[str]]) -> OpenHtml:
    """Open a page that consists of a style sheet and a body."""
    folder, address, asked = served

    def opened(style: str, body: str, **view: int) -> Page:
        name = f"output-{len([*folder.iterdir()])}.html"
        page = f'<!doctype html><meta charset="utf-8"><style>{style}</style><body>{body}'
        (folder / name).write_text(page, encoding="utf-8")
        return browser.open(f"{address}/{name}", asked, **view)

    return opened


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.picture(Path(PICTURES, name), "html", 1400)


def coloured(output: str) -> str:
    """Return a terminal's output as HTML."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(record=True, width=80, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(output), soft_wrap=True)
    return console.export_html(theme=MONOKAI, inline_styles=True, code_format="<pre>{code}</pre>")


def session(folder: Path, *options: str) -> tuple[int, str]:
    """Run ``pytest -m perf`` in a project; return its status, and command and output in colour."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "perf", "--color=yes", *options],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = run.stderr if run.returncode > 1 else ""
    lines = [line for line in (run.stdout + errors).splitlines() if not _HEADER.fullmatch(line)]
    return run.returncode, "\n".join([f"$ {' '.join(['pytest -m perf', *options])}", *lines])


def test_a_comment_shows_its_table_without_scrolling(open_html: OpenHtml) -> None:
    markdown = session_markdown(session_of(whole_report()))
    page = open_html(
        COMMENT_STYLE,
        MarkdownIt("commonmark").enable("table").render(markdown),
        width=920,
        height=700,
    )
    assert page.text("h3").startswith("llmperf: regressed")
    assert "30.0% slower" in " ".join(page.visible("td"))
    assert page.count("details:not([open])") >= 1
    assert "|" not in page.text()  # a table that is no table
    table = "const at = document.querySelector('table'); return at.scrollWidth - at.clientWidth"
    assert page.js(table) <= 0
    picture(page, "comment.png")


@pytest.mark.skipif(not PICTURES, reason="pictures of sessions: LLMPERF_SCREENSHOTS=FOLDER")
def test_sessions_on_a_terminal(tmp_path: Path, open_html: OpenHtml) -> None:
    """The sessions of docs/walkthrough.md; the embedded model measures for a minute."""
    make_chat(tmp_path / "chat")
    status, output = session(tmp_path / "chat")
    assert status == 0, output
    page = open_html(TERMINAL_STYLE, coloured(output), width=760, height=700)
    assert "1 passed" in page.text()
    picture(page, "terminal-passed.png")
    subprocess.run(["git", "switch", "--quiet", "less-memory"], cwd=tmp_path / "chat", check=True)
    status, output = session(tmp_path / "chat", "--llmperf-against", "merge-base:main")
    assert status == 1, output
    page = open_html(TERMINAL_STYLE, coloured(output), width=760, height=900)
    assert "regressed" in page.text()
    picture(page, "terminal-regressed.png")
