"""``llmperf report SESSION.json``: one session in a form that another tool reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.cli.output import OutputError, note, put_utf8, run_reporting, write
from pytest_llmperf.report.forms.table import FORMS, Form

if TYPE_CHECKING:
    from pytest_llmperf.report.forms.reported import ReportedSession

_DESCRIPTION = """\
Shows one session to another tool. SESSION.json is a report of --llmperf-json;
the forms that hold numbers only also take a stored session (--llmperf-record).
The session's own verdicts are shown; nothing is judged again or measured.
"""
_EPILOG = """\
examples:
  llmperf report session.json --markdown -o comment.md
  llmperf report session.json --github-action-benchmark smaller -o times.json

exit status: 0 written, whatever the verdicts are, 1 it can't be written,
2 not a report
"""
_WRITE_ONE = "write one: pytest -m perf --llmperf-json FILE"


class NoReportError(Exception):
    """The file can't be shown in that form; the message says why, and what to do."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "report",
        help="show one session as Markdown, JUnit, OpenMetrics and more",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("session", type=Path, metavar="SESSION.json")
    forms = parser.add_mutually_exclusive_group(required=True)
    for form in FORMS:
        if form.choices:
            forms.add_argument(f"--{form.option}", choices=form.choices, help=form.text)
        else:
            forms.add_argument(
                f"--{form.option}", action="store_const", const="yes", help=form.text
            )
    # HTML: `--html FILE` joins this group. Unlike the forms of the table it writes its own file,
    # with write_html(arguments.session, FILE) of report/html/, which _report() calls first.
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write to this file, not to the output"
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
    form, value = _form_of(arguments)
    session = _read(arguments.session, form)
    text = form.render(session, value)
    if form.numbers_only:
        _name_left_out(session)
    if arguments.output is None:
        put_utf8(text, "the report")
        return 0
    _check_output(arguments)
    write(arguments.output, text, "the report", "-o")
    return 0


def _form_of(arguments: argparse.Namespace) -> tuple[Form, str]:
    for form in FORMS:
        value = getattr(arguments, form.option.replace("-", "_"))
        if value is not None:
            return form, value
    raise AssertionError("argparse requires one of them")


def _read(path: Path, form: Form) -> ReportedSession:
    """Read the session; raises BadRecordError and NoReportError."""
    from pytest_llmperf.report.forms.reported import read_session

    if not path.exists() and not path.is_symlink():
        raise NoReportError(f"{path}: there is no such file\n  {_WRITE_ONE}")
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


def _check_output(arguments: argparse.Namespace) -> None:
    """Check that the output does not replace the report itself."""
    output: Path = arguments.output
    if output.exists() and output.samefile(arguments.session):
        raise OutputError(f"-o {output}: that is the report itself; name another file")


def _name_left_out(session: ReportedSession) -> None:
    from pytest_llmperf.gate.words import count
    from pytest_llmperf.report.forms.measurements import left_out

    if nodeids := left_out(session):
        what = count(len(nodeids), "test")
        note(f"left out, because an error or a disturbed machine voids it: {what}: {nodeids[0]}")
