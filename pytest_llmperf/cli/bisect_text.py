"""What ``llmperf bisect`` prints: what is asked and answered, and in the end what was found."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.bisect.drive import Answered, Asked, Begun, Event
from pytest_llmperf.bisect.outcome import counting
from pytest_llmperf.cli.output import say, say_words
from pytest_llmperf.gate.words import at_most, count, effect_words, percent
from pytest_llmperf.metrics import UnknownMetricError, get_metric
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.bisect.estimate import Estimate
    from pytest_llmperf.bisect.history import Commit
    from pytest_llmperf.bisect.outcome import Outcome
    from pytest_llmperf.bisect.session import Finding, Pair, Session
    from pytest_llmperf.repository.revisions import Revision


class Teller:
    """Prints a search as it goes on.

    Args:
        good, bad: its ends.
        folder: where what is measured is kept.
        first_parent: merges are taken as one commit each.
    """

    def __init__(
        self, good: Revision, bad: Revision, folder: Path, first_parent: bool = False
    ) -> None:
        self._good = good
        self._bad = bad
        self._folder = folder
        self._first_parent = first_parent

    def line(self, text: str, first: str = "", indent: str = "  ") -> None:
        """Print one sentence now, not when a buffer is full."""
        say_words(text, first=first, indent=indent)
        sys.stdout.flush()

    def tell(self, event: Event) -> None:
        """Print what happened."""
        if isinstance(event, Begun):
            self._begun(event.estimate)
            for problem in event.problems:
                self.line(f"note: {problem}")
        elif isinstance(event, Asked):
            self.line(
                f"session {event.number}: {_name(event.commit)}, against {event.against.short}"
            )
        else:
            self._answered(event)

    def outcome(self, outcome: Outcome) -> None:
        """Print what was found."""
        print()
        if outcome.kind == "unmeasured":
            self._unmeasured(outcome.end)
        elif outcome.kind == "not slower":
            self._not_slower(outcome.end)
        elif outcome.kind == "range":
            self._range(outcome)
        else:
            self._first(outcome)
        sys.stdout.flush()

    def _begun(self, estimate: Estimate) -> None:
        self.line(str(self._good), "good: ", "      ")
        self.line(str(self._bad), "bad:  ", "      ")
        about = "" if estimate.line else "about "
        longest = format_duration(estimate.longest)
        self.line(
            f"{count(estimate.commits, 'commit')}: {about or 'at most '}"
            f"{count(estimate.sessions, 'session')}, each measuring for at most "
            f"{format_duration(estimate.budget)}: {about or 'at most '}{longest} of measuring; "
            "one session more for each commit that has to be skipped"
        )
        known = f"; {count(estimate.known, 'session')} there already" if estimate.known else ""
        self.line(f"kept in {self._folder}{known}")

    def _answered(self, event: Answered) -> None:
        session, judgement = event.judged.session, event.judged.judgement
        if session.same_as:
            self.line(
                f"not measured: {_name(event.commit)} has the files of {session.same_as[:12]}, "
                "recorded baselines apart"
            )
        elif event.kept:
            self.line(f"known: {_name(event.commit)}, against {session.against[:12]}")
        first = f"  {judgement.call}: "
        if not event.pairs:
            return  # nothing regressed at the bad end, and that ends the search
        if judgement.call == "skip":
            self.line(judgement.reason, first, "    ")
        elif session.is_base:
            self.line("the same code", first, "    ")
        else:
            for finding in _telling(session, event.pairs, judgement.call):
                self.line(f"{finding.test}: {_effect(finding)}", first, "    ")
                first = "       "
        if not event.kept:
            each = f"it took {format_duration(session.seconds)}"
            if event.remaining:
                rest = format_duration(session.seconds * event.remaining)
                each += f"; {count(event.remaining, 'session')} more at most, about {rest}"
            self.line(each, "  ", "  ")

    def _first(self, outcome: Outcome) -> None:
        first = outcome.candidates[0]
        verified = outcome.verification
        assert verified is not None
        confirmed = outcome.kind == "found"
        title = "first bad commit" if confirmed else "first bad commit, NOT confirmed"
        self.line(f"{title}: {first.hash}")
        self.line(first.subject, "  ", "  ")
        self.line(f"{first.author}, {first.date}", "  ", "  ")
        if len(first.parents) > 1:
            parents = ", ".join(parent[:12] for parent in first.parents)
            self.line(f"a merge of {parents}; compared with the first of them", "  ", "  ")
        self._strays(outcome)
        self.line(f"against its parent {verified.against[:12]}:")
        self._findings(outcome.effects(), verified)
        self._sure(outcome)

    def _strays(self, outcome: Outcome) -> None:
        """Say that what was found may be slow by nature."""
        if not outcome.strays:
            return
        good, one = self._good.name, len(outcome.candidates) == 1
        strays = ", ".join(commit[:12] for commit in outcome.strays)
        who = "it does" if one else f"of them, {strays} do"
        advice = (
            f"give a GOOD from the line of first parents of {self._bad.name}"
            if self._first_parent
            else "--first-parent takes each merge as one commit"
        )
        self.line(
            f"{who} not descend from {good}, so being slower than {good} may mean no more than "
            f"to lack what made {good} fast; {advice}",
            "  ",
            "  ",
        )

    def _sure(self, outcome: Outcome) -> None:
        rates = outcome.rates
        bad, good = outcome.calls("bad"), outcome.calls("good")
        if outcome.own_error is not None:
            self.line(
                f"that this commit itself slows them is wrong with at most "
                f"{percent(outcome.own_error)} (perf.false_alarms): the search had no part in "
                "this session",
                "how sure: ",
            )
        else:
            self.line(
                "measured against its own parent, no slowdown is proven: it may have come in "
                "several small steps, or a call of the search was wrong",
                "how sure: ",
            )
        self.line(
            f"that it is the first one rests on {count(bad + good, 'call')} of the search: {bad} "
            f"bad (each wrong with at most {percent(rates.false_alarm)}), {good} good (each misses "
            f"a slowdown of its tolerance with at most {percent(rates.false_pass)}): "
            f"together at most {percent(outcome.search_error)}",
            "  ",
        )

    def _range(self, outcome: Outcome) -> None:
        reasons = {each.session.commit: each.judgement.reason for each in outcome.path}
        number = count(len(outcome.candidates), "commit")
        self.line(f"the first bad commit is one of {number}; the others could not be judged:")
        for commit in outcome.candidates:
            self.line(_name(commit), "  ", "    ")
            if reason := reasons.get(commit.hash):
                self.line(f"skipped: {reason}", "    ", "      ")
        self._strays(outcome)
        self.line("to measure the skipped ones again, give the same command --retry-skipped")

    def _not_slower(self, end: Session) -> None:
        undecided = [each for each in end.findings if each.verdict not in ("pass", "improved")]
        said = "is not proven slower" if undecided else "is not slower"
        self.line(f"{self._bad} {said} than {self._good}, so there is nothing to look for:")
        self._findings(end.findings, end)
        if undecided:
            self.line("what is inconclusive may be decided with more time: raise perf.budget")

    def _unmeasured(self, end: Session) -> None:
        self.line(f"{self._bad} could not be measured against {self._good}:")
        for line in end.problem.splitlines():
            if line.startswith(" "):
                say(line.expandtabs())  # another program's output
            else:
                self.line(line, "  ", "  ")

    def _findings(self, findings: Iterable[Finding], session: Session) -> None:
        test = ""
        for finding in findings:
            if finding.test != test:
                test = finding.test
                self.line(test, "  ", "    ")
            self.line(f"{finding.verdict}: {_effect(finding)}", "    ", "      ")
        if session.problem:
            self.line(session.problem.splitlines()[0], "    ", "      ")
        if session.report:
            self.line(f"its whole report: {session.report}", "  ", "  ")


def _telling(session: Session, pairs: Sequence[Pair], call: str) -> list[Finding]:
    """Return the findings that made the call."""
    found = counting(session, pairs)
    return [each for each in found if call != "bad" or each.verdict == "regressed"]


def _name(commit: Commit) -> str:
    return f"{commit.short} {commit.subject}"


def _effect(finding: Finding) -> str:
    """Say how much slower, with the interval where there is one."""
    try:
        metric = get_metric(finding.metric)
    except UnknownMetricError:
        return finding.metric
    if finding.verdict == "pass" and finding.bound is not None:
        return f"{metric.label} {at_most(finding.bound, metric)}"
    if finding.effect is None or finding.low is None or finding.high is None:
        return f"{metric.label}: {finding.text or finding.verdict}"
    return f"{metric.label} {effect_words(metric, finding.effect, finding.low, finding.high)}"
