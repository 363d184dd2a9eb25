"""The whole page: what the session found, its tests, and where the numbers come from."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.report.html.assets import content_policy, script, style
from pytest_llmperf.report.html.chart_data import packed
from pytest_llmperf.report.html.intervals import LEGEND, tone
from pytest_llmperf.report.html.report_data import PageReport, PageSession
from pytest_llmperf.report.html.section import facts_table, listing, rank, test_section
from pytest_llmperf.report.html.values import text
from pytest_llmperf.units import format_duration

#: Names of provenance for readers.
_NAMES = {"dirty": "uncommitted changes", "engine_version": "engine's version"}
_ORDER = [kind.value for kind in VerdictKind]


def page(report: PageReport, *, samples: bool = False) -> str:
    """Return the page as one HTML document that loads nothing.

    ``samples``: keep every raw sample, not only their distribution.
    """
    session = report.session
    numbered = sorted(enumerate(report.tests), key=lambda one: rank(one[1]))
    tests = "".join(test_section(test, number, report) for number, test in numbered)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(content_policy())}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>LLM performance: {text(_outcome(report))}</title>"
        f"<style>{style()}</style></head>\n<body>"
        '<a class="skip" href="#tests">Skip to the tests</a>'
        f"<header><h1>LLM performance</h1>{_counts(report)}{_what(session)}</header>"
        f"{listing('What the machine did while measuring', session.busy)}"
        f"{_filters(report)}{LEGEND if report.tests else ''}"
        f'<main id="tests" tabindex="-1">{tests or "<p>The session has no perf tests.</p>"}</main>'
        f"{_origin(session)}"
        f'<script type="text/plain" id="data">{packed(report, samples=samples)}</script>'
        f"<script>{script()}</script></body></html>\n"
    )


def _outcome(report: PageReport) -> str:
    found = _of_tests(report)
    return ", ".join(f"{count} {kind}" for kind, count in found.items()) or "no tests"


def _of_tests(report: PageReport) -> dict[str, int]:
    """Return how many tests have each verdict, the worst first."""
    counts: Counter[str] = Counter(test.verdict or "shown only" for test in report.tests)
    return {kind: counts[kind] for kind in (*_ORDER, "shown only") if counts[kind]}


def _counts(report: PageReport) -> str:
    items = "".join(
        f'<li class="{tone(None if kind == "shown only" else kind)}"><b>{count}</b> {text(kind)}'
        for kind, count in _of_tests(report).items()
    )
    total = len(report.tests)
    label = f"{total} test{'s' if total != 1 else ''} by verdict"
    return f'<ul class="counts" aria-label="{label}">{items}</ul>'


def _what(session: PageSession) -> str:
    origin = session.provenance or {}
    commit = str(origin.get("commit") or "")[:12]
    changed = " with uncommitted changes" if origin.get("dirty") else ""
    branch = f" ({origin['branch']})" if origin.get("branch") else ""
    facts = {
        "model": session.model,
        "engine": session.engine,
        "machine": session.machine,
        "commit": f"{commit}{branch}{changed}" if commit else "",
        "compared with": session.against or _sessions(len(session.baselines)),
        "measured": _when(session),
    }
    return facts_table(facts)


def _sessions(count: int) -> str:
    return f"{count} stored session{'s' if count != 1 else ''}" if count else ""


def _when(session: PageSession) -> str:
    took = f"in {format_duration(session.wall_s)}" if session.wall_s else ""
    at = (session.measured_at or "").replace("T", " ").replace("Z", " UTC")
    return " ".join(part for part in (at, took) if part)


def _filters(report: PageReport) -> str:
    """Return the controls that choose which tests are shown; only a script can offer them."""
    kinds = "".join(
        f'<label><input type="checkbox" name="verdict" value="{text(kind)}" checked>'
        f"{text(kind)} <small>{count}</small></label>"
        for kind, count in _of_tests(report).items()
    )
    return (
        '<form id="filters" role="search" hidden><label>Name <input type="search" id="name" '
        'placeholder="part of a test&#39;s name" autocomplete="off"></label>'
        f"<fieldset><legend>Verdict</legend>{kinds}</fieldset>"
        '<p><button type="button" id="open">Open all shown</button> '
        '<button type="button" id="close">Close all</button> '
        '<output id="shown" aria-live="polite"></output></p></form>'
    )


def _origin(session: PageSession) -> str:
    facts = {
        "command": session.command or "",
        **{
            _NAMES.get(name, name): _shown(value)
            for name, value in (session.provenance or {}).items()
        },
        "base commit": session.base_commit or "",
        "recorded to": session.recorded_to or "",
        "seed": str(session.seed),
        "plan": f"at least {session.processes} processes of {session.iterations} iterations a test",
        "false alarms": f"at most {session.false_alarms:.3g} a session",
    }
    problem = session.history.problem if session.history else None
    return (
        '<section id="origin"><h2>Origin</h2>'
        f"{facts_table(facts)}"
        f"{_facts('Model file', session.model_file or {})}"
        f"{_facts('Settings of the engine', session.config)}"
        f"{_facts('Machine', session.machine_facts)}"
        f"{listing('Differences of the two sides', session.side_differences)}"
        f"{listing('Baseline files', session.baselines)}"
        f"{listing('Notes', [*session.notes, *([problem] if problem else [])])}"
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
