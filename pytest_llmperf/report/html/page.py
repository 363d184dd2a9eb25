"""The HTML page: a session's results, its tests, and the origin of its numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_llmperf.gate.words import count
from pytest_llmperf.report.cells import replays_words
from pytest_llmperf.report.forms.headline import REMOVED
from pytest_llmperf.report.html.assets import content_policy, script, style
from pytest_llmperf.report.html.chart_data import chart_text
from pytest_llmperf.report.html.intervals import LEGEND, tone
from pytest_llmperf.report.html.load_curves import load_curves
from pytest_llmperf.report.html.section import (
    KINDS,
    SHOWN_ONLY,
    facts_table,
    kind_of,
    listing,
    test_section,
    unmeasured_section,
)
from pytest_llmperf.report.html.values import text
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.report.reported import ReportedSession, ShownFacts

#: Provenance key -> name for readers.
_NAMES = {"dirty": "uncommitted changes", "engine_version": "engine's version"}


def page(report: ReportedSession, *, samples: bool = False) -> str:
    """Return the page as one HTML document without external resources.

    ``samples``: keep every raw sample, not only the distributions.
    """
    session = report.session
    tests = "".join(_sections(report))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(content_policy())}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>LLM performance: {text(_outcome(report))}</title>"
        f"<style>{style()}</style></head>\n<body>"
        '<a class="skip" href="#tests">Skip to the tests</a>'
        f"<header><h1>LLM performance</h1>{_counts(report)}{_session_facts(session)}</header>"
        f"{listing('What the machine did while measuring', session.busy)}"
        f"{_filters(report)}{LEGEND if report.tests else ''}"
        f"{load_curves(report)}"
        f'<main id="tests" tabindex="-1">{tests or "<p>The session has no perf tests.</p>"}</main>'
        f"{_origin(report)}"
        f'<script type="text/plain" id="data">{chart_text(report, samples=samples)}</script>'
        f"<script>{script()}</script></body></html>\n"
    )


def _sections(report: ReportedSession) -> Iterator[str]:
    """Yield the sections of all tests, the worst first."""
    sections = [
        *((kind_of(test), test_section(test, i, report)) for i, test in enumerate(report.tests)),
        *((kind_of(test), unmeasured_section(test, i)) for i, test in enumerate(report.unmeasured)),
    ]
    for _, section in sorted(sections, key=lambda part: KINDS.index(part[0])):
        yield section


def _outcome(report: ReportedSession) -> str:
    counts = _of_tests(report)
    return ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "no tests"


def _of_tests(report: ReportedSession) -> dict[str, int]:
    """Count the tests by verdict, or reason for having none, the worst first."""
    counts = Counter([*map(kind_of, report.tests), *map(kind_of, report.unmeasured)])
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def _counts(report: ReportedSession) -> str:
    items = "".join(
        f'<li class="{tone(None if kind == SHOWN_ONLY else kind)}"><b>{number}</b> {text(kind)}'
        for kind, number in _of_tests(report).items()
    )
    total = count(len(report.tests) + len(report.unmeasured), "test")
    return f'<ul class="counts" aria-label="{total} by verdict">{items}</ul>'


def _session_facts(session: ShownFacts) -> str:
    origin = session.provenance
    commit = (origin.commit or "")[:12] if origin else ""
    changed = " with uncommitted changes" if origin and origin.dirty else ""
    branch = f" ({origin.branch})" if origin and origin.branch else ""
    sessions = len(session.baselines)
    stored = count(sessions, "stored session") if sessions else ""
    facts = {
        "model": session.model,
        "engine": session.engine,
        "machine": session.machine,
        "commit": f"{commit}{branch}{changed}" if commit else "",
        "compared with": session.against or stored,
        "measured": _measured_when(session),
    }
    return facts_table(facts)


def _measured_when(session: ShownFacts) -> str:
    took = f"in {format_duration(session.wall_s)}" if session.wall_s else ""
    at = (session.measured_at or "").replace("T", " ").replace("Z", " UTC")
    return " ".join(part for part in (at, took) if part)


def _filters(report: ReportedSession) -> str:
    """Return the controls that filter the tests, hidden until the script runs."""
    kinds = "".join(
        f'<label><input type="checkbox" name="verdict" value="{text(kind)}" checked>'
        f"{text(kind)} <small>{number}</small></label>"
        for kind, number in _of_tests(report).items()
    )
    return (
        '<form id="filters" role="search" hidden><label>Name <input type="search" id="name" '
        'placeholder="part of a test&#39;s name" autocomplete="off"></label>'
        f"<fieldset><legend>Verdict</legend>{kinds}</fieldset>"
        '<p><button type="button" id="open">Open all shown</button> '
        '<button type="button" id="close">Close all</button> '
        '<output id="shown" aria-live="polite"></output></p></form>'
    )


def _origin(report: ReportedSession) -> str:
    session = report.session
    alarms = session.false_alarms
    facts = {
        "command": session.command or "",
        **{
            _NAMES.get(name, name): _shown(value)
            for name, value in (asdict(session.provenance) if session.provenance else {}).items()
        },
        "base commit": session.base_commit or "",
        "recorded to": session.recorded_to or "",
        "seed": str(session.seed),
        "plan": (
            f"at least {count(session.processes, session.unit)} of "
            f"{replays_words(report.tests, session.iterations)} a test"
        ),
        "false alarms": "" if alarms is None else f"at most {alarms:.3g} a session",
    }
    notes = [*session.notes, *(f"{REMOVED}: {nodeid}" for nodeid in report.removed)]
    if report.compare is not None and report.compare.why_not:
        notes.insert(0, f"not compared: {report.compare.why_not}")
    if session.history is not None and session.history.problem:
        notes.append(session.history.problem)
    return (
        '<section id="origin"><h2>Origin</h2>'
        f"{facts_table(facts)}"
        f"{_facts('Model file', session.model_file or {})}"
        f"{_facts('Settings of the engine', session.config)}"
        f"{_facts('Machine', session.machine_facts)}"
        f"{listing('Differences of the two sides', session.side_differences)}"
        f"{listing('Baseline files', session.baselines)}"
        f"{listing('Notes', notes)}"
        '<p class="off">Written by pytest-llmperf; charts by uPlot (MIT licence).</p></section>'
    )


def _facts(title: str, facts: dict[str, Any]) -> str:
    if not facts:
        return ""
    shown = facts_table({name: _shown(value) for name, value in facts.items()})
    return f"<details><summary>{text(title)}</summary>{shown}</details>"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
