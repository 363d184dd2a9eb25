"""The search for a slow commit: progress as text, and the result as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_llmperf.bisect.drive import BisectEvent, CommitJudged, MeasuringCommit, SearchStarted
from pytest_llmperf.bisect.outcome import findings_on
from pytest_llmperf.gate.words import at_most, count, effect_words, percent
from pytest_llmperf.metrics import known_metric
from pytest_llmperf.text import wrap_words
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.bisect.drive import Bisection, Estimate
    from pytest_llmperf.bisect.history import Commit
    from pytest_llmperf.bisect.outcome import BisectOutcome
    from pytest_llmperf.bisect.session import BisectFinding, BisectSession, CheckKey, Judgement
    from pytest_llmperf.repository.revisions import Revision


SCHEMA_VERSION = 1


class _Sentence(NamedTuple):
    """A sentence to wrap, with the prefix of its first line and the indent of the others."""

    text: str
    first: str = ""
    indent: str = "  "


class BisectText:
    """Writes the events and the result of a search as lines for a terminal.

    Args:
        good, bad: the two ends of the search.
        folder: where the measurements are kept.
        first_parent: whether each merge is treated as one commit.
    """

    def __init__(
        self, good: Revision, bad: Revision, folder: Path, first_parent: bool = False
    ) -> None:
        self._good = good
        self._bad = bad
        self._folder = folder
        self._first_parent = first_parent
        #: Longest measuring time of one session, seconds; known once the search has begun.
        self._budget = 0.0

    def event_lines(self, event: BisectEvent, width: int) -> list[str]:
        """Write one event."""
        return _wrapped(self._event(event), width)

    def outcome_lines(self, outcome: BisectOutcome, width: int) -> list[str]:
        """Write the result, with an empty line before it."""
        if outcome.kind == "unmeasured":
            sentences = self._unmeasured(outcome.end)
        elif outcome.kind == "not slower":
            sentences = self._not_slower(outcome.end)
        elif outcome.kind == "range":
            sentences = self._range(outcome)
        else:
            sentences = self._first(outcome)
        return ["", *_wrapped(sentences, width)]

    def _event(self, event: BisectEvent) -> Iterator[_Sentence]:
        if isinstance(event, SearchStarted):
            yield from self._begun(event.estimate)
            for problem in event.problems:
                yield _Sentence(f"note: {problem}")
        elif isinstance(event, MeasuringCommit):
            yield _Sentence(
                f"session {event.number}: {_name(event.commit)}, against {event.against.short}"
            )
        else:
            yield from self._answered(event)

    def _begun(self, estimate: Estimate) -> Iterator[_Sentence]:
        self._budget = estimate.budget
        yield _Sentence(str(self._good), "good: ", "      ")
        yield _Sentence(str(self._bad), "bad:  ", "      ")
        about = "" if estimate.is_linear else "about "
        longest = format_duration(estimate.longest)
        yield _Sentence(
            f"{count(estimate.commits, 'commit')}: {about or 'at most '}"
            f"{count(estimate.sessions, 'session')}, each measuring for at most "
            f"{format_duration(estimate.budget)}: {about or 'at most '}{longest} of measuring; "
            "one session more for each commit that has to be skipped"
        )
        known = f"; {count(estimate.known, 'session')} already measured" if estimate.known else ""
        yield _Sentence(f"kept in {self._folder}{known}")

    def _answered(self, event: CommitJudged) -> Iterator[_Sentence]:
        session, judgement = event.judged.session, event.judged.judgement
        if session.same_as:
            yield _Sentence(
                f"not measured: {_name(event.commit)} has the files of {session.same_as[:12]}, "
                "recorded baselines apart"
            )
        elif event.kept:
            yield _Sentence(f"known: {_name(event.commit)}, against {session.against[:12]}")
        first = f"  {judgement.call}: "
        if not event.checks:
            return  # nothing regressed at the bad end, so the search ends
        if judgement.call == "skip":
            yield _Sentence(judgement.reason, first, "    ")
        elif session.is_base:
            yield _Sentence("the same code", first, "    ")
        else:
            for finding in _deciding_findings(session, event.checks, judgement.call):
                yield _Sentence(f"{finding.test}: {_effect(finding)}", first, "    ")
                first = "       "
        if not event.kept:
            duration = f"it took {format_duration(session.seconds)}"
            if event.remaining:
                duration += (
                    f"; {count(event.remaining, 'session')} more at most: "
                    f"{format_duration(session.seconds * event.remaining)} if each takes as long, "
                    f"up to {format_duration(self._budget * event.remaining)} of measuring"
                )
            yield _Sentence(duration, "  ", "  ")

    def _first(self, outcome: BisectOutcome) -> Iterator[_Sentence]:
        first = outcome.candidates[0]
        verified = outcome.verification
        assert verified is not None
        confirmed = outcome.kind == "found"
        title = "first bad commit" if confirmed else "first bad commit, NOT confirmed"
        yield _Sentence(f"{title}: {first.hash}")
        yield _Sentence(first.subject, "  ", "  ")
        yield _Sentence(f"{first.author}, {first.date}", "  ", "  ")
        if len(first.parents) > 1:
            parents = ", ".join(parent[:12] for parent in first.parents)
            yield _Sentence(f"a merge of {parents}; compared with the first of them", "  ", "  ")
        yield from self._strays(outcome)
        yield _Sentence(f"against its parent {verified.against[:12]}:")
        yield from self._findings(outcome.effects(), verified)
        yield from self._error_bounds(outcome)

    def _strays(self, outcome: BisectOutcome) -> Iterator[_Sentence]:
        """Warn of candidates that do not descend from good: they may never have been fast."""
        if not outcome.strays:
            return
        good, is_found = self._good.name, len(outcome.candidates) == 1
        strays = ", ".join(commit[:12] for commit in outcome.strays)
        they = "it does" if is_found else f"of them, {strays} do"
        advice = (
            f"give a GOOD from the line of first parents of {self._bad.name}"
            if self._first_parent
            else "--first-parent treats each merge as one commit"
        )
        yield _Sentence(
            f"{they} not descend from {good}, and may be slower only for lack of what made {good} "
            f"fast; {advice}",
            "  ",
            "  ",
        )

    def _error_bounds(self, outcome: BisectOutcome) -> Iterator[_Sentence]:
        rates = outcome.rates
        bad, good = outcome.calls("bad"), outcome.calls("good")
        if outcome.own_error is not None:
            yield _Sentence(
                f"the chance that this commit itself is no slower is at most "
                f"{percent(outcome.own_error)} (perf.false_alarms); the search had no part in "
                "this session",
                "how sure: ",
            )
        else:
            yield _Sentence(
                "measured against its own parent, no slowdown is proven: it may have come in "
                "several small steps, or a call of the search was wrong",
                "how sure: ",
            )
        yield _Sentence(
            f"the chance that it is not the first slow commit is at most "
            f"{percent(outcome.search_error)}: the search called {count(bad, 'session')} bad (a "
            f"false alarm: at most {percent(rates.false_alarm)} each) and {good} good (a missed "
            f"slowdown of the tolerance: at most {percent(rates.false_pass)} each)",
            "  ",
        )

    def _range(self, outcome: BisectOutcome) -> Iterator[_Sentence]:
        reasons = {judged.session.commit: judged.judgement.reason for judged in outcome.path}
        number = count(len(outcome.candidates), "commit")
        yield _Sentence(f"the first bad commit is one of {number}; the others could not be judged:")
        for commit in outcome.candidates:
            yield _Sentence(_name(commit), "  ", "    ")
            if reason := reasons.get(commit.hash):
                yield _Sentence(f"skipped: {reason}", "    ", "      ")
        yield from self._strays(outcome)
        yield _Sentence(
            "to measure the skipped commits again, repeat the command with --retry-skipped"
        )

    def _not_slower(self, end: BisectSession) -> Iterator[_Sentence]:
        undecided = [check for check in end.findings if check.verdict not in ("pass", "improved")]
        claim = "is not proven slower" if undecided else "is not slower"
        yield _Sentence(f"{self._bad} {claim} than {self._good}, so there is nothing to look for:")
        yield from self._findings(end.findings, end)
        if undecided:
            yield _Sentence("what is inconclusive may be decided with more time: raise perf.budget")

    def _unmeasured(self, end: BisectSession) -> Iterator[_Sentence | str]:
        yield _Sentence(f"{self._bad} could not be measured against {self._good}:")
        for line in end.problem.splitlines():
            if line.startswith(" "):
                yield line.expandtabs()  # another program's output
            else:
                yield _Sentence(line, "  ", "  ")

    def _findings(
        self, findings: Iterable[BisectFinding], session: BisectSession
    ) -> Iterator[_Sentence]:
        test = ""
        for finding in findings:
            if finding.test != test:
                test = finding.test
                yield _Sentence(test, "  ", "    ")
            yield _Sentence(f"{finding.verdict}: {_effect(finding)}", "    ", "      ")
        if session.problem:
            yield _Sentence(session.problem.splitlines()[0], "    ", "      ")
        if session.report:
            yield _Sentence(f"its whole report: {session.report}", "  ", "  ")


def _wrapped(sentences: Iterable[_Sentence | str], width: int) -> list[str]:
    """Wrap sentences into lines; keep plain strings as they are."""
    lines: list[str] = []
    for sentence in sentences:
        if isinstance(sentence, str):
            lines.append(sentence)
        else:
            lines += wrap_words(sentence.text, width, sentence.indent, sentence.first)
    return lines


def _deciding_findings(
    session: BisectSession, checks: Sequence[CheckKey], call: str
) -> list[BisectFinding]:
    """Return the findings that led to the call."""
    findings = findings_on(session, checks)
    return [finding for finding in findings if call != "bad" or finding.verdict == "regressed"]


def _name(commit: Commit) -> str:
    return f"{commit.short} {commit.subject}"


def _effect(finding: BisectFinding) -> str:
    """Write how much slower a metric is, with its interval if there is one."""
    metric = known_metric(finding.metric)
    if metric is None:
        return finding.metric
    if finding.verdict == "pass" and finding.bound is not None:
        return f"{metric.label} {at_most(finding.bound, metric)}"
    if finding.effect is None or finding.low is None or finding.high is None:
        return f"{metric.label}: {finding.text or finding.verdict}"
    return f"{metric.label} {effect_words(metric, finding.effect, finding.low, finding.high)}"


def bisect_json(bisection: Bisection, outcome: BisectOutcome) -> dict[str, Any]:
    """Return a search's outcome as plain JSON, as ``--json`` writes it.

        {schema, kind, good, bad, first, candidates [commit], skipped [commit], strays [hash],
         metrics [{test, metric}], effects [finding], end session, path [session],
         verification session, error_bounds {own_effect, search},
         rates {false_alarm, false_pass, tolerance}, folder}

    ``kind`` is found, unconfirmed, range, not slower or unmeasured; ``strays`` are the candidates
    that do not descend from good. A commit is {hash, subject, author, date, parents}; good and bad
    are {name, commit, subject}; a session is {commit, against, same_as, call, reason, seconds,
    machine, problem, report, log, findings}, where ``same_as`` is the commit with the same files
    that was measured instead; a finding is {test, metric, verdict, text, effect, low, high,
    bound}, with slowdowns as fractions and 95% intervals. Items that do not apply are null.
    """
    first, verified = outcome.first, outcome.verification
    is_found = first is not None
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
        "path": [_session(judged.session, judged.judgement) for judged in outcome.path],
        "verification": _session(verified, None) if verified is not None else None,
        "error_bounds": {
            "own_effect": outcome.own_error,
            "search": outcome.search_error if is_found else None,
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
