"""The JSON that ``llmperf bisect --json`` writes.

    {schema, kind, good, bad, first, candidates [commit], skipped [commit], strays [hash], metrics
     [{test, metric}], effects [finding], end session, path [session], verification session,
     error_bounds {own_effect, search}, rates {false_alarm, false_pass, tolerance}, folder}

``kind`` is found, unconfirmed, range, not slower or unmeasured; ``strays`` are those candidates
that do not descend from good. A commit is {hash, subject, author, date, parents}; good and bad
are {name, commit, subject}; a session is {commit, against, same_as, call, reason, seconds,
machine, problem, report, log, findings}, ``same_as`` being the commit with the same files that
was measured in its place; a finding is {test, metric, verdict, text, effect, low, high,
bound}, slowdowns as fractions, intervals at 95%. What does not apply is null.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmperf.bisect.drive import Bisection
    from pytest_llmperf.bisect.outcome import BisectOutcome
    from pytest_llmperf.bisect.session import BisectSession, Judgement

SCHEMA_VERSION = 1


def bisect_json(bisection: Bisection, outcome: BisectOutcome) -> dict[str, Any]:
    """Return plain JSON types, shaped as the module says."""
    first, verified = outcome.first, outcome.verification
    found = first is not None
    return {
        "schema": SCHEMA_VERSION,
        "kind": outcome.kind,
        "good": asdict(bisection.good),
        "bad": asdict(bisection.bad),
        "first": asdict(first) if first is not None else None,
        "candidates": [asdict(commit) for commit in outcome.candidates],
        "skipped": [asdict(commit) for commit in outcome.skipped],
        "strays": list(outcome.strays),
        "metrics": [check._asdict() for check in outcome.checks],
        "effects": [asdict(finding) for finding in outcome.effects()],
        "end": _session(outcome.end, None),
        "path": [_session(each.session, each.judgement) for each in outcome.path],
        "verification": _session(verified, None) if verified is not None else None,
        "error_bounds": {
            "own_effect": outcome.own_error,
            "search": outcome.search_error if found else None,
        },
        "rates": asdict(outcome.rates),
        "folder": str(bisection.evidence.folder),
    }


def _session(session: BisectSession, judgement: Judgement | None) -> dict[str, Any]:
    return {
        "commit": session.commit,
        "against": session.against,
        "same_as": session.same_as or None,
        "call": judgement.call if judgement else None,
        "reason": (judgement.reason if judgement else "") or None,
        "seconds": session.seconds,
        "machine": session.machine or None,
        "problem": session.problem or None,
        "report": session.report or None,
        "log": session.log or None,
        "findings": [asdict(finding) for finding in session.findings],
    }
