"""Terminal output besides the verdicts: plan, progress, table, problems."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Step
from pytest_llmperf.report.progress import Progress
from pytest_llmperf.text import printable, printable_lines, wrap_words


class TerminalConsole:
    """Writes through pytest's terminal reporter; silent where there is none, or with ``-q``."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @property
    def _reporter(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    @property
    def _quiet(self) -> bool:
        return self._reporter is None or self._config.get_verbosity() < 0

    def line(self, text: str) -> None:
        """Write one line; control characters are escaped, as it may quote a commit's subject."""
        if not self._quiet:
            _fresh_line(self._reporter)
            self._reporter.write_line(f"llmperf: {printable_lines(text)}")

    def recording(self, nodeid: str) -> None:
        """Name each body that runs, with ``-v``."""
        if not self._quiet and self._config.get_verbosity() > 0:
            self.line(f"recording {printable(nodeid)}")

    @contextmanager
    def progress(self, plan: Plan, *, in_logs: bool = True) -> Iterator[Callable[[Step], None]]:
        """Show the progress of the rounds; on a terminal only, unless ``in_logs``."""
        if self._quiet or not (in_logs or self._reporter.isatty):
            yield lambda _: None
            return
        reporter, began, current = self._reporter, time.monotonic(), [0]
        _fresh_line(reporter)
        live = bool(reporter.isatty)
        progress = Progress(
            lambda text: reporter.write(text, flush=True), live=live, width=_width(reporter)
        )

        def show_step(step: Step) -> None:
            progress.note_open(step.open, step.left)
            elapsed = time.monotonic() - began
            if step.process != current[0]:
                current[0], expected = step.process, plan.expected_seconds
                if step.pair is None:
                    progress.start_process(step.process, elapsed, expected)
                else:
                    progress.start_pair(step.pair, step.side, elapsed, expected)
            progress.iteration(step.nodeid, step.iteration or 0, step.iterations, elapsed)

        with progress:
            yield show_step
        reporter.currentfspath = None

    def table(self, reporter: Any, render: Callable[[int, bool], list[str]]) -> None:
        """Print the table at the terminal's width; ``render`` takes width and colour."""
        reporter.section("LLM performance")
        for line in render(_width(reporter), bool(reporter.hasmarkup)):
            reporter.write_line(line)

    def remarks(self, reporter: Any, remarks: Sequence[str], **markup: bool) -> None:
        """Print further remarks, after the table; ``markup`` is pytest's, such as ``red``."""
        for remark in remarks:
            for line in wrap_words(remark, _width(reporter), first="llmperf: "):
                reporter.write_line(line, **markup)


def _fresh_line(reporter: Any) -> None:
    """Begin a new line, even after output of ``--setup-show`` that the reporter does not track."""
    reporter.ensure_newline()
    if reporter._tw.width_of_current_line:
        reporter.write_line("")


def _width(reporter: Any) -> int:
    """Columns of the terminal, as pytest draws its own lines."""
    return int(reporter.config.get_terminal_writer().fullwidth)
