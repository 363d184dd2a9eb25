"""Writing of a report's HTML page, from a file or from parsed JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_llmperf.report.html.page import page
from pytest_llmperf.report.json_report import write_report
from pytest_llmperf.report.reported import read_report, session_of


def write_html(
    report: Path | dict[str, Any],
    path: Path,
    *,
    samples: bool = False,
    option: str = "--llmperf-html",
) -> None:
    """Write the page of a session to ``path`` atomically, creating its folder.

    Args:
        report: a file of ``--llmperf-json``, or its parsed content.
        path: the file to write.
        samples: keep every raw sample in the page, not only the distributions.
        option: the option that gave ``path``, named in the error.

    Raises:
        BadRecordError: the report can't be read, is damaged or was written by a newer plugin.
        ShapeError: the parsed JSON is not a report.
        ReportError: the page can't be written there.
    """
    data = read_report(report) if isinstance(report, Path) else session_of(report)
    write_report(path, page(data, samples=samples), "HTML", option)
