"""A session as Markdown: a page for a comment or a job summary, with the verdict first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count, listed, percent
from pytest_llmperf.report.cells import NOTHING
from pytest_llmperf.report.disturbances import brief_claim, listed_checks
from pytest_llmperf.report.forms import figures
from pytest_llmperf.report.forms.headline import ADDED, REMOVED, headline
from pytest_llmperf.report.load_curve import LoadCurve, curves_of_report
from pytest_llmperf.report.markdown import (
    LONGEST,
    ON_TOP,
    VerdictPage,
    clipped,
    code,
    escape,
    sentence,
    session_line,
    unmeasured_line,
    unmeasured_row,
    verdict_cell,
)
from pytest_llmperf.report.reported_checks import claims

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pytest_llmperf.report.reported import ReportedSession, ShownTest
    from pytest_llmperf.report.reported_checks import ReportedCheck
    from pytest_llmperf.session.recorded import UnmeasuredTest

_HEADER = ("verdict", "test", "metric", "measured", "target", "baseline", "change")
#: Causes shown for one test; ``llmperf doctor`` shows all.
_CAUSES = 3


@dataclass(frozen=True)
class _Row:
    """One check of one test."""

    test: ShownTest
    check: ReportedCheck

    @property
    def kind(self) -> VerdictKind | None:
        """The check's verdict; in a void test, the test's verdict if the check has none."""
        voided = self.test.verdict if self.test.is_void else None
        return self.check.verdict or voided

    @property
    def order(self) -> tuple[int, float]:
        """Sort key: the worst verdict first, then the largest slowdown."""
        rank = len(VerdictKind) if self.kind is None else self.kind.rank
        return rank, -self.check.change if self.check.change is not None else float("inf")

    @property
    def text(self) -> str:
        """The table row; rows on top leave the interval to the explanation of their verdict."""
        check = self.check
        change = figures.change_size if self.kind in ON_TOP else figures.change
        texts = (
            check.label,
            figures.measured(check),
            figures.target(check),
            figures.baseline(check),
            change(check),
        )
        name = code(clipped(self.test.nodeid))
        return _row(verdict_cell(self.kind, NOTHING), name, *map(escape, map(clipped, texts)))


def session_markdown(session: ReportedSession, longest: int = LONGEST) -> str:
    """Write a session: the verdict, what failed or is undecided, and the rest folded away.

    ``longest``: number of characters; what does not fit is left out, and counted.
    """
    rows = sorted(
        (_Row(test, check) for test in session.tests for check in test.checks),
        key=lambda row: row.order,
    )
    on_top = [row for row in rows if row.kind in ON_TOP]
    # In the order of the table: a dict keeps the first position of each.
    explained = {row.test.nodeid: row.test for row in on_top}
    others = [test for test in session.tests if test.nodeid not in explained]
    disturbed = listed_checks(session.session.fitness)
    unmeasured = [test for test in session.unmeasured if test.failed]
    worst, counts = headline(session)
    compared = session.compare is not None
    file = "`llmperf compare --format json`" if compared else "The session's JSON file"
    page = VerdictPage(
        title=f"llmperf: {worst} ({escape(counts)})",
        about=list(_introduction(session)),
        header=_HEADER,
        top=[
            *(unmeasured_row(test.nodeid, len(_HEADER)) for test in unmeasured),
            *(row.text for row in on_top),
        ],
        top_lines=[
            *map(_why_unmeasured, unmeasured),
            *filter(None, (_item(test, disturbed, compared) for test in explained.values())),
        ],
        rest=[row.text for row in rows if row.kind not in ON_TOP],
        lines=[
            *(_why_unmeasured(test) for test in session.unmeasured if not test.failed),
            *filter(None, (_item(test, disturbed, compared) for test in others)),
            *_facts(session),
        ],
        whole=f"{file} has all of it.",
    )
    return page.text(longest)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _introduction(session: ReportedSession) -> Iterator[str]:
    facts = session.session
    yield session_line(facts.model, facts.machine, facts.engine)
    if session.is_record:
        yield "A recorded session: it has measurements and no verdicts."
    elif (sides := session.compare) is not None:
        stored = count(sides.base_sessions, "stored session")
        judged, base = code(clipped(sides.judged)), code(clipped(sides.base))
        yield f"Judged {judged}, compared with {base} ({stored})."
        for text in sides.unlike:
            yield f"Not judged, since it differs: {sentence(text)}."
        if sides.why_not:
            yield f"**Not compared:** {sentence(sides.why_not)}."
        if sides.added:
            yield f"{count(len(sides.added), 'test')} {ADDED}."
        if sides.command is not None:
            sharper = "For the sharpest answer, measure both sides in one session"
            yield f"{sharper}: {code(sides.command)}."
    elif facts.against is not None:
        commit = f" ({facts.base_commit[:12]})" if facts.base_commit else ""
        yield f"Compared with {code(clipped(facts.against + commit))}, run in the same session."
    elif facts.baselines:
        yield f"Compared with {count(len(facts.baselines), 'stored session')}."
    origin = facts.provenance
    if origin is not None and origin.commit:
        changed = ", with uncommitted changes" if origin.dirty else ""
        yield f"Measured commit {code(origin.commit[:12])}{changed}."
    if facts.busy:
        yield f"What the machine did: {escape(clipped('; '.join(facts.busy), 1000))}."


def _why_unmeasured(test: UnmeasuredTest) -> str:
    return unmeasured_line(test.nodeid, test.outcome, test.reason)


def _item(test: ShownTest, disturbed: Collection[str], compared: bool) -> str:
    """Return a list item that explains a test's verdicts; empty if nothing needs it.

    ``compared``: in a comparison, differences are listed once for all tests, and not here.
    """
    differences = () if compared else test.other_differences
    lines = [sentence(text) for text in (*_explanations(test, disturbed), *differences)]
    return "\n  - ".join([f"- {code(clipped(test.nodeid))}", *lines]) if lines else ""


def _explanations(test: ShownTest, disturbed: Collection[str]) -> Iterator[str]:
    """Explain each verdict except plain passes; checks with the same reason share a line.

    ``disturbed``: machine checks whose findings are listed above all tests.
    """
    for (kind, claim), checks in claims(test.checks).items():
        notes = list(dict.fromkeys(note for check in checks for note in check.notes))
        if kind is not VerdictKind.PASS or notes:
            labels = listed([check.label for check in checks])
            text = brief_claim(kind, claim, disturbed)
            yield f"{kind.value}: {labels}: {'; '.join([text, *notes])}"
    diagnosed = test.diagnosis[:_CAUSES]
    for cause in test.causes:
        if cause not in {entry.evidence for entry in diagnosed}:
            yield f"likely cause: {cause}"
    for entry in diagnosed:
        yield f"why it may be slow: {entry.title}: {entry.evidence}; change: {entry.change}"
    yield from test.findings


def _curve(curve: LoadCurve) -> str:
    """Return a list item: a load curve, with a line for each load."""
    header, *rows = curve.rows()
    points = [
        ", ".join(f"{name} {cell}".strip() for name, cell in zip(header[1:], row[1:], strict=True))
        for row in rows
    ]
    lines = [
        f"{escape(f'{row[0]} {curve.unit}: {point}')}"
        for row, point in zip(rows, points, strict=True)
    ]
    knee = [f"knee: {curve.knee.load:g} {curve.unit}"] if curve.knee is not None else []
    return "\n  - ".join([f"- load curve of {code(clipped(curve.name))}", *lines, *knee])


def _facts(session: ReportedSession) -> Iterator[str]:
    facts = session.session
    for curve in curves_of_report(session):
        yield _curve(curve)
    for text in (*facts.side_differences, *facts.notes):
        yield f"- {sentence(text)}"
    if (sides := session.compare) is not None:
        for text in sides.remarks:
            yield f"- {sentence(text)}"
        differences = (text for test in session.tests for text in test.other_differences)
        for text in dict.fromkeys(differences):
            yield f"- differs from the base: {sentence(text)}"
        for word, nodeids in ((ADDED, sides.added), (REMOVED, sides.removed)):
            yield from (f"- {word}: {code(clipped(nodeid))}" for nodeid in nodeids)
    elif facts.false_alarms is not None and (facts.against or facts.baselines):
        chance = percent(facts.false_alarms)
        yield f"- chance of a false regressed verdict: at most {escape(chance)} per session"
    for name in facts.baselines:
        yield f"- baseline: {code(clipped(name))}"
