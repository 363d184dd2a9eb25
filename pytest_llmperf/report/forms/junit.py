"""A session as JUnit XML, in the schema of Jenkins' xUnit plugin (junit-10.xsd)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from pytest_llmperf.report.forms import figures
from pytest_llmperf.report.forms.headline import headline
from pytest_llmperf.report.forms.outcome import Outcome, TestOutcome, outcomes_of
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.report.reported import ReportedSession

#: Outcome -> element below a test's. An undecided test is skipped: readers do not show a pass.
_ELEMENTS = {Outcome.BROKEN: "error", Outcome.FAILED: "failure", Outcome.OPEN: "skipped"}


def junit_xml(session: ReportedSession) -> str:
    """Return a session as the text of a JUnit file.

    Failing verdicts are failures; ``error`` and ``invalid`` are errors. A test that neither
    failed nor proves anything, such as an inconclusive one, is skipped, with the reason.
    """
    outcomes = outcomes_of(session)
    counts = Counter(test.outcome for test in outcomes)
    facts = session.session
    totals = {
        "tests": str(len(outcomes)),
        "failures": str(counts[Outcome.FAILED]),
        "errors": str(counts[Outcome.BROKEN]),
    }
    suites = Element("testsuites", {"name": "llmperf", **totals})
    suite = SubElement(
        suites,
        "testsuite",
        {
            "name": "llmperf",
            **totals,
            "skipped": str(counts[Outcome.OPEN]),
            "time": f"{facts.wall_s:.3f}",
        },
    )
    worst, counted = headline(session)
    properties = SubElement(suite, "properties")
    for name, value in (
        ("llmperf.verdict", worst),
        ("llmperf.counts", counted),
        ("llmperf.machine", facts.machine),
        ("llmperf.model", facts.model),
        ("llmperf.engine", facts.engine),
        ("llmperf.against", facts.against or ""),
    ):
        if value:
            SubElement(properties, "property", {"name": name, "value": printable(value)})
    for test in outcomes:
        suite.append(_case(test))
    indent(suites)
    # Non-ASCII characters become references, which survive any encoding of the output.
    body = tostring(suites, encoding="us-ascii", xml_declaration=False).decode("ascii")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def _case(test: TestOutcome) -> Element:
    classname, name = _names(test.nodeid)
    case = Element("testcase", {"classname": classname, "name": name})
    if (element := _ELEMENTS.get(test.outcome)) is not None:
        kind, message = f"llmperf.{test.verdict_text}", printable(test.message)
        shown = SubElement(case, element, {"type": kind, "message": message})
        shown.text = "\n".join(map(printable, test.reasons))
    if lines := list(_figures(test)):
        SubElement(case, "system-out").text = "\n".join(map(printable, lines))
    return case


def _names(nodeid: str) -> tuple[str, str]:
    """Split a node id like pytest's JUnit file: ``tests.test_a.TestB`` and ``test_c[1]``."""
    # Parameters may hold any text.
    plain, bracket, parameters = nodeid.partition("[")
    *path, name = plain.split("::")
    file = path[0].removesuffix(".py").replace("/", ".") if path else ""
    classname = ".".join([file, *path[1:]]) if path else "llmperf"
    return printable(classname), printable(f"{name}{bracket}{parameters}")


def _figures(test: TestOutcome) -> Iterator[str]:
    """Yield the measurements as lines, as JUnit's schema has no properties of a test."""
    if (measured := test.test) is None:
        return
    yield f"verdict: {test.verdict_text}"
    yield f"workload: {measured.workload.summary}"
    for check in measured.checks:
        verdict = f"{check.verdict.value}: " if check.verdict is not None else ""
        yield f"{check.label}: {verdict}{figures.figures_line(check)}"
