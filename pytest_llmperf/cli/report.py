"""``llmperf report SESSION.json``: convert a session to a page, or a format of another tool."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.cli.help_text import HelpFormatter, exit_status_text
from pytest_llmperf.cli.output import OutputError, note, put_utf8, run_reporting, write
from pytest_llmperf.report.forms.registry import FORMS, Form, FormRequest

if TYPE_CHECKING:
    from pytest_llmperf.report.reported import ReportedSession

_DESCRIPTION = """\
Converts one session for other tools. SESSION.json is a report of --llmperf-json;
Markdown and the forms that only hold numbers also take a stored session of
--llmperf-record. The output has the session's own verdicts: nothing is measured
or judged again.
"""
#: Exit status -> its meaning.
EXIT_STATUS = {
    0: "written, whatever the verdicts are",
    1: "it can't be written",
    2: "not a report, or a stored session without the verdicts that this form shows",
}
_EPILOG = f"""\
examples:
  llmperf report session.json --markdown -o comment.md
  llmperf report session.json --html report.html
  llmperf report session.json --github --github-comment comment.md
  llmperf report session.json --github-action-benchmark smaller -o times.json

{exit_status_text(EXIT_STATUS)}
"""
_WRITE_ONE = "write one: pytest -m perf --llmperf-json FILE"
#: Smallest page size in characters; the required content needs this much room.
_FEWEST_CHARS = 4_000


class NoReportError(Exception):
    """Raised if a file can't be shown in a form; the message says why, and what to do."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "report",
        help="show one session as HTML, Markdown, JUnit, OpenMetrics and more",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "session", type=Path, metavar="SESSION.json", help="the report, or a stored session"
    )
    forms = parser.add_mutually_exclusive_group(required=True)
    for form in FORMS:
        if form.choices:
            forms.add_argument(f"--{form.option}", choices=form.choices, help=form.text)
        else:
            forms.add_argument(f"--{form.option}", action="store_const", const="", help=form.text)
    forms.add_argument("--html", type=Path, metavar="FILE", help="write a page for a browser")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write to this file instead of printing; with --github the page, instead of "
        "adding it to the step's summary",
    )
    parser.add_argument(
        "--github-comment",
        type=Path,
        metavar="FILE",
        help="with --github: also write the page as a comment's body, which starts with a hidden "
        "marker to find the comment by",
    )
    parser.add_argument(
        "--max-chars",
        type=_chars,
        metavar="N",
        help="characters of a page (default: 60,000); omissions are listed",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the session in the requested form; return the exit status."""
    from pytest_llmperf.baselines.errors import BadRecordError

    return run_reporting(
        lambda: _report(arguments),
        wrong=(NoReportError, BadRecordError),
        problems=(OutputError,),
    )


def _report(arguments: argparse.Namespace) -> int:
    if arguments.html is not None:
        return _write_page(arguments)
    from pytest_llmperf.report.forms.outcome import in_repository
    from pytest_llmperf.report.markdown import LONGEST

    form, value = _form_of(arguments)
    is_github = form.option == "github"
    if arguments.github_comment is not None and not is_github:
        raise NoReportError("--github-comment goes with --github only")
    for option, path in (("-o", arguments.output), ("--github-comment", arguments.github_comment)):
        _check_other_file(option, path, arguments.session)
    session = _read(arguments.session, form)
    to_repository_path = partial(in_repository, folder=Path.cwd(), environ=os.environ)
    request = FormRequest(value, to_repository_path, arguments.max_chars or LONGEST)
    text = form.render(session, request)
    if form.numbers_only:
        _name_left_out(session)
    if is_github:
        _write_github_pages(arguments, session, request.longest)
    if arguments.output is None or is_github:
        put_utf8(text, "the report")
    else:
        write(arguments.output, text, "the report", "-o")
    return 0


def _write_page(arguments: argparse.Namespace) -> int:
    """Write the page for a browser to its file."""
    from pytest_llmperf.report.html import write_html
    from pytest_llmperf.report.json_report import ReportError

    given = {
        "-o": arguments.output,
        "--github-comment": arguments.github_comment,
        "--max-chars": arguments.max_chars,
    }
    if extra := [option for option, value in given.items() if value is not None]:
        raise NoReportError(f"{extra[0]} does not go with --html, which names its own file")
    _check_other_file("--html", arguments.html, arguments.session)
    _check_exists(arguments.session)
    try:
        write_html(arguments.session, arguments.html, option="--html")
    except ReportError as error:
        raise OutputError(str(error)) from None
    return 0


def _check_exists(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        raise NoReportError(f"{path}: there is no such file\n  {_WRITE_ONE}")


def _form_of(arguments: argparse.Namespace) -> tuple[Form, str]:
    for form in FORMS:
        value = getattr(arguments, form.option.replace("-", "_"))
        if value is not None:
            return form, value
    raise AssertionError("argparse requires one of them")


def _read(path: Path, form: Form) -> ReportedSession:
    """Read a session that a form can show; raises BadRecordError and NoReportError."""
    from pytest_llmperf.report.reported import read_session

    _check_exists(path)
    session = read_session(path)
    if not session.tests and not session.unmeasured:
        raise NoReportError(
            f"{path}: the session measured no test, so there is nothing to show\n"
            "  select perf tests: pytest -m perf --llmperf-json FILE"
        )
    if session.is_record and form.needs_verdicts:
        raise NoReportError(
            f"{path}: a stored session has measurements and no verdicts, so --{form.option} has "
            f"nothing to show\n  use a report of the session instead; {_WRITE_ONE}"
        )
    return session


def _check_other_file(option: str, path: Path | None, session: Path) -> None:
    """Check that an output file is not the report itself; raises OutputError."""
    if path is not None and path.exists() and session.exists() and path.samefile(session):
        raise OutputError(f"{option} {path}: that is the report itself; name another file")


def _name_left_out(session: ReportedSession) -> None:
    from pytest_llmperf.gate.words import count
    from pytest_llmperf.report.forms.measurements import left_out

    if nodeids := left_out(session):
        note(
            f"{count(len(nodeids), 'test')} left out, since an error or a disturbed machine voids "
            f"the numbers: {', '.join(nodeids[:3])}{' ...' if len(nodeids) > 3 else ''}"
        )


def _write_github_pages(
    arguments: argparse.Namespace, session: ReportedSession, longest: int
) -> None:
    """Write the page to the step's summary or the given file, and to the comment file."""
    from pytest_llmperf.report.forms.github import comment
    from pytest_llmperf.report.forms.markdown import session_markdown

    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if arguments.output is not None:
        write(arguments.output, session_markdown(session, longest), "the page", "-o")
    elif summary:
        _add_to_summary(Path(summary), session, longest)
    elif arguments.github_comment is None:
        note("no page was written: GITHUB_STEP_SUMMARY is not set; name a file with -o FILE")
    if arguments.github_comment is not None:
        text = comment(session, longest)
        write(arguments.github_comment, text, "the comment", "--github-comment")


def _add_to_summary(path: Path, session: ReportedSession, longest: int) -> None:
    """Append the page to the step's summary, where other commands may have written, too."""
    from pytest_llmperf.report.forms.github import summary

    try:
        text = summary(session, path.stat().st_size if path.exists() else 0, longest)
        if not text:
            note("the step's summary is full (1 MiB), so the page was not added to it")
            return
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(
            f"the page can't be added to the step's summary {path}: {reason}\n"
            "  name another file with -o FILE"
        ) from None


def _chars(text: str) -> int:
    try:
        number = int(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if number < _FEWEST_CHARS:
        raise argparse.ArgumentTypeError(f"expected {_FEWEST_CHARS:,} or more, got {number:,}")
    return number
