"""The whole search: the bad end first, then halving, then the answer against its own parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_llmperf.bisect.estimate import Estimate
from pytest_llmperf.bisect.evidence import Evidence, EvidenceError
from pytest_llmperf.bisect.history import (
    Commit,
    Contents,
    check_contents,
    check_range,
    count_commits,
    descendants,
    look_up,
)
from pytest_llmperf.bisect.judgement import Judgement, judge
from pytest_llmperf.bisect.outcome import JudgedCommit, Kind, Outcome, Rates
from pytest_llmperf.bisect.search import Search
from pytest_llmperf.bisect.session import Pair, Session
from pytest_llmperf.repository.folders import remove_tree
from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.revisions import Revision

#: Git's own part of a search, beside what was measured.
_SEARCH = "search.git"


@dataclass(frozen=True)
class Question:
    """What to measure: ``commit`` interleaved with ``against``.

    Attributes:
        commit, against: full hashes.
        tests: node ids; None for all that the user asked for.
        fresh: no evidence of other sessions may count.
    """

    commit: str
    against: str
    tests: tuple[str, ...] | None = None
    fresh: bool = False


#: Runs one session. What is wrong with the commit is in the answer; what is wrong with anything
#: else (a full disk, git, an interruption) is raised, and ends the search until it goes on.
Oracle = Callable[[Question], Session]


@dataclass(frozen=True)
class Begun:
    """The search begins.

    Attributes:
        estimate: what it takes at most.
        problems: what can't be used of what was kept, a message for each file.
    """

    estimate: Estimate
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A commit is about to be measured; ``number`` counts sessions from 1."""

    commit: Commit
    against: Commit
    number: int


@dataclass(frozen=True)
class Answered:
    """A commit was judged.

    Attributes:
        commit: it.
        judged: the session and the call.
        kept: it was measured by an earlier run, or in the place of another commit.
        pairs: the metrics that count.
        remaining: sessions that are still to come, at most.
    """

    commit: Commit
    judged: JudgedCommit
    kept: bool
    pairs: tuple[Pair, ...]
    remaining: int


Event = Begun | Asked | Answered


@dataclass
class Bisection:
    """One search between two commits.

    Args:
        repository: the user's.
        good, bad: the ends.
        oracle: measures.
        evidence: held; what was measured before, and where it is kept.
        rates: declared by the gate.
        budget: the longest time of one session, seconds.
        tell: told what happens.
        first_parent: take merges as one commit each.
        retry: measure again what had to be skipped.
        alone: every session stands for itself: asked once more, it would have another chance
            to be wrong.
        host: this machine, as known before anything runs; empty if unknown.
        baselines: the folder of recorded baselines, from the top of the repository: what lies
            there makes a commit no other; None where it lies outside.
    """

    repository: Repository
    good: Revision
    bad: Revision
    oracle: Oracle
    evidence: Evidence
    rates: Rates
    budget: float
    tell: Callable[[Event], None]
    first_parent: bool = False
    retry: bool = False
    alone: bool = False
    host: str = ""
    baselines: str | None = None

    def __post_init__(self) -> None:
        self._contents = Contents(self.repository, self.baselines)
        self._number = 0
        self._remaining = 0

    def run(self) -> Outcome:
        """Search, and return what was found.

        Raises:
            RangeError: nothing lies between the ends.
            GitError, EvidenceError: git or the cache does not work; what was measured is kept.
        """
        good, bad = self.good.commit, self.bad.commit
        check_range(self.repository, self.good, self.bad)
        check_contents(self._contents, self.good, self.bad)
        count, line = count_commits(self.repository, good, bad, self.first_parent)
        known = self.evidence.sessions()
        estimate = Estimate(count, line, self.budget, len(known))
        self._remaining = estimate.sessions
        self.tell(Begun(estimate, tuple(self.evidence.problems())))
        end, kept = self._ask(Question(bad, good))
        pairs = tuple(finding.pair for finding in end.regressed)
        self._told(end, Judgement("bad" if pairs else "skip"), kept, pairs)
        if not pairs:
            kind: Kind = "unmeasured" if not end.findings else "not slower"
            return Outcome(kind, end, self.rates)
        if self.retry:
            self._drop_skipped(known, end, pairs)
        return self._search(Outcome("range", end, self.rates, pairs))

    def _search(self, outcome: Outcome) -> Outcome:
        folder = self.evidence.folder / _SEARCH
        remove_tree(folder)  # of a run that was killed
        good, bad = self.good.commit, self.bad.commit
        try:
            search = Search(self.repository, good, bad, folder, self.first_parent)
            path = self._halve(search, outcome.pairs)
            candidates, skipped = search.candidates(), search.skipped()
        finally:
            remove_tree(folder)
        after = descendants(self.repository, good, bad)
        outcome = replace(
            outcome,
            path=tuple(path),
            candidates=tuple(look_up(self.repository, commit) for commit in candidates),
            skipped=tuple(look_up(self.repository, commit) for commit in skipped),
            strays=tuple(commit for commit in candidates if commit not in after),
        )
        if len(candidates) > 1:
            return outcome
        return self._verify(outcome)

    def _halve(self, search: Search, pairs: tuple[Pair, ...]) -> list[JudgedCommit]:
        """Ask about one commit after the other, until nothing more can be told."""
        path: list[JudgedCommit] = []
        while (commit := search.next()) is not None:
            # What is left may take one more step than halving says: the last bad one is known.
            self._remaining = (len(search.candidates()) - 1).bit_length() + 1
            session, kept = self._ask(Question(commit, self.good.commit, _tests(pairs)))
            judged = JudgedCommit(session, judge(session, pairs))
            path.append(judged)
            search.answer(commit, judged.judgement.call)
            self.evidence.keep_log(search.log())
            self._told(session, judged.judgement, kept, pairs)
        return path

    def _verify(self, outcome: Outcome) -> Outcome:
        """Measure the first bad commit once more, against its own parent."""
        first = outcome.candidates[0]
        self._remaining = 1
        question = Question(first.hash, first.parents[0], _tests(outcome.pairs), fresh=True)
        session, kept = self._ask(question)
        judgement = judge(session, outcome.pairs)
        self._told(session, judgement, kept, outcome.pairs)
        kind: Kind = "found" if judgement.call == "bad" else "unconfirmed"
        return replace(outcome, kind=kind, verification=session)

    def _ask(self, question: Question) -> tuple[Session, bool]:
        """Return what is known of a commit, else measure it; and whether it was known."""
        self._number += 1
        known = self.evidence.find(question.commit, question.against, question.fresh)
        known = known or self._alike(question)
        if known is not None:
            return known, True
        look = self.repository
        commit, against = look_up(look, question.commit), look_up(look, question.against)
        self._same_machine("host", self.host)
        self.tell(Asked(commit, against, self._number))
        session = replace(self.oracle(question), host=self.host)
        self._same_machine("machine", session.machine)
        # An end that is not slower, or can't be measured, is asked about anew, unless each time
        # would be another chance of a false alarm.
        end = session.commit == self.bad.commit and not session.fresh
        if session.regressed or not end or (self.alone and session.looked()):
            self.evidence.keep(session)
        return session, False

    def _alike(self, question: Question) -> Session | None:
        """Return what is known of a commit by another one with the same files, or None."""
        commit, against, fresh = question.commit, question.against, question.fresh
        if self._contents.same(commit, against):
            return Session(commit, against, fresh=fresh, host=self.host, same_as=against)
        for known in self.evidence.sessions():
            if (known.against, known.fresh) == (against, fresh) and self._contents.same(
                commit, known.commit
            ):
                return replace(known, commit=commit, same_as=known.commit)
        return None

    def _told(
        self, session: Session, judgement: Judgement, kept: bool, pairs: tuple[Pair, ...]
    ) -> None:
        self._remaining = max(0, self._remaining - 1)
        commit = look_up(self.repository, session.commit)
        self.tell(Answered(commit, JudgedCommit(session, judgement), kept, pairs, self._remaining))

    def _same_machine(self, kind: Literal["host", "machine"], this: str) -> None:
        """Refuse to mix machines: a slowdown of one need not be one of the other.

        The host is known before a session, the machine with its backend after one.
        """
        others = {str(getattr(kept, kind)) for kept in self.evidence.sessions()} - {"", this}
        if this and others:
            raise EvidenceError(
                f"what this search has kept was measured on {', '.join(sorted(others))}, and this "
                f"is {this}; go on there, or begin anew here with --restart"
            )

    def _drop_skipped(
        self, known: Sequence[Session], end: Session, pairs: tuple[Pair, ...]
    ) -> None:
        for session in known:
            if session == end or judge(session, pairs).call != "skip":
                continue
            # Where no other evidence counts, measuring until the call is another one would add
            # up its chances to be wrong.
            if not (session.fresh or self.alone) or not session.looked(pairs):
                self.evidence.drop(session)


def _tests(pairs: Sequence[Pair]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(pair.test for pair in pairs))
