"""Terminal output besides the verdicts: plan, progress, table, problems."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import pytest

from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Step
from pytest_llmperf.plugin.on_sigterm import on_sigterm
from pytest_llmperf.report.progress import LogProgress, Progress
from pytest_llmperf.text import printable, wrap_words

_LEAD = "llmperf: "


class TerminalConsole:
    """Writes through pytest's terminal reporter; silent where there is none, or with ``-q``."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._live: Progress | None = None

    @property
    def _reporter(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    @property
    def _quiet(self) -> bool:
        return self._reporter is None or self._config.get_verbosity() < 0

    def line(self, text: str) -> None:
        """Write a message; control characters are escaped, as it may quote a commit's subject."""
        if self._quiet:
            return
        lines = list(_message(text, _width(self._reporter)))
        if self._live is not None:
            for line in lines:
                self._live.line(line)
            return
        _fresh_line(self._reporter)
        for line in lines:
            self._reporter.write_line(line)

    def recording(self, nodeid: str) -> None:
        """With ``-v``, print the name of the test whose body runs."""
        if not self._quiet and self._config.get_verbosity() > 0:
            self.line(f"recording {printable(nodeid)}")

    @contextmanager
    def progress(self, plan: Plan, *, in_logs: bool = True) -> Iterator[Callable[[Step], None]]:
        """Show the progress of the rounds; on a terminal only, unless ``in_logs``."""
        reporter = self._reporter
        if self._quiet or not (in_logs or _is_live(reporter)):
            yield lambda _: None
            return
        _fresh_line(reporter)
        began, progress = time.monotonic(), _progress(reporter, plan.expected_seconds)
        self._live = progress
        try:
            with on_sigterm(progress.close):
                yield lambda step: progress.step(step, time.monotonic() - began)
        finally:
            self._live = None
            progress.close()
        reporter.currentfspath = None

    def table(self, reporter: Any, render: Callable[[int, bool], list[str]]) -> None:
        """Print the table at the terminal's width; ``render`` takes width and colour."""
        # pytest has ended its line of results; else an empty line would follow the title.
        reporter.currentfspath = None
        reporter.section("LLM performance")
        for line in render(_width(reporter), bool(reporter.hasmarkup)):
            reporter.write_line(line)

    def remarks(self, reporter: Any, remarks: Sequence[str], **markup: bool) -> None:
        """Print further remarks, after the table; ``markup`` is pytest's, such as ``red``."""
        for remark in remarks:
            for line in wrap_words(remark, _width(reporter), first=_LEAD):
                reporter.write_line(line, **markup)


def _message(text: str, width: int) -> Iterator[str]:
    """Break a message into lines; its own indented lines, such as commands, stay as they are."""
    for number, line in enumerate(text.splitlines()):
        if line[:1].isspace():
            yield printable(line)
        else:
            yield from wrap_words(line, width, first="" if number else _LEAD)


def _is_live(reporter: Any) -> bool:
    """Whether lines can be redrawn: on a terminal that people watch."""
    # CI as pytest detects it, and dumb terminals as rich does.
    is_ci = any(os.environ.get(name) for name in ("CI", "BUILD_NUMBER"))
    is_dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return bool(reporter.isatty) and not is_ci and not is_dumb


def _progress(reporter: Any, expected_seconds: float) -> Progress:
    """Return the progress display: a redrawn block on a terminal, else lines."""
    if not _is_live(reporter):
        return LogProgress(
            lambda text: reporter.write(text, flush=True), _width(reporter), expected_seconds
        )
    from pytest_llmperf.report.live_progress import LiveProgress

    # Bypasses the reporter, which would take the block for the beginning of its own line.
    file: TextIO = reporter.config.get_terminal_writer()._file

    def write(text: str) -> None:
        try:
            file.write(text)
        except UnicodeEncodeError:
            file.write(text.encode("ascii", "backslashreplace").decode())
        file.flush()

    return LiveProgress(
        write,
        color=bool(reporter.hasmarkup),
        encoding=getattr(file, "encoding", None) or "utf-8",
        expected_seconds=expected_seconds,
    )


def _fresh_line(reporter: Any) -> None:
    """Begin a new line, even after output of ``--setup-show`` that the reporter does not track."""
    reporter.ensure_newline()
    if reporter._tw.width_of_current_line:
        reporter.write_line("")


def _width(reporter: Any) -> int:
    """Columns of the terminal, as pytest draws its own lines."""
    return int(reporter.config.get_terminal_writer().fullwidth)
