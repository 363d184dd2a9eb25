"""The search: measures the bad end, halves the range, then verifies the first bad commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_llmperf.bisect.evidence import BisectEvidence, EvidenceError
from pytest_llmperf.bisect.history import (
    Commit,
    CommitFiles,
    check_contents,
    check_range,
    count_commits,
    descendants,
    look_up,
)
from pytest_llmperf.bisect.outcome import BisectOutcome, JudgedCommit, Kind, Rates
from pytest_llmperf.bisect.search import Search
from pytest_llmperf.bisect.session import BisectSession, CheckKey, Judgement, judge
from pytest_llmperf.repository.folders import remove_tree
from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.revisions import Revision

#: Name of the folder for the private git repository, next to the stored sessions.
_SEARCH = "search.git"


@dataclass(frozen=True)
class Question:
    """A commit to measure, interleaved with ``against``; both are full hashes.

    ``tests`` is None for all tests that the user asked for. If ``fresh``, evidence of other
    sessions must not count.
    """

    commit: str
    against: str
    tests: tuple[str, ...] | None = None
    fresh: bool = False


#: Runs one session. Problems of the commit are part of the result; any other problem (a full disk,
#: git, an interruption) is raised and stops the search, which can be continued later.
Oracle = Callable[[Question], BisectSession]


@dataclass(frozen=True)
class SearchStarted:
    """Event: the search begins, with a message for each stored file that can't be used."""

    estimate: Estimate
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuringCommit:
    """Event: a commit is about to be measured; ``number`` counts sessions from 1."""

    commit: Commit
    against: Commit
    number: int


@dataclass(frozen=True)
class CommitJudged:
    """Event: a commit was judged, by the checks that count.

    ``kept``: its session comes from an earlier run, or from a commit with the same files.
    ``remaining``: the maximum number of sessions to come.
    """

    commit: Commit
    judged: JudgedCommit
    kept: bool
    checks: tuple[CheckKey, ...]
    remaining: int


BisectEvent = SearchStarted | MeasuringCommit | CommitJudged


@dataclass
class Bisection:
    """One search between two commits.

    Args:
        evidence: the stored sessions, locked for this process.
        rates: error rates that the gate declares.
        budget: time limit of one session, seconds.
        on_event: called with every event.
        first_parent: whether to treat each merge as a single commit.
        retry: whether to measure skipped commits again.
        isolated: whether sessions share no evidence; then none is repeated to get another verdict,
            because every repetition is another chance of a wrong one.
        host: label of this machine, known before anything runs; empty if unknown.
        baselines: the folder of recorded baselines, relative to the top of the repository; its
            files don't make commits different. None if it is outside the repository.
    """

    repository: Repository
    good: Revision
    bad: Revision
    oracle: Oracle
    evidence: BisectEvidence
    rates: Rates
    budget: float
    on_event: Callable[[BisectEvent], None]
    first_parent: bool = False
    retry: bool = False
    isolated: bool = False
    host: str = ""
    baselines: str | None = None

    def __post_init__(self) -> None:
        self._contents = CommitFiles(self.repository, self.baselines)
        self._number = 0
        self._remaining = 0

    def run(self) -> BisectOutcome:
        """Search, and return the outcome.

        Raises:
            RangeError: there is nothing to search between the two commits.
            GitError, EvidenceError: git or the cache does not work; finished sessions are kept.
        """
        good, bad = self.good.commit, self.bad.commit
        check_range(self.repository, self.good, self.bad)
        check_contents(self._contents, self.good, self.bad)
        count, is_linear = count_commits(self.repository, good, bad, self.first_parent)
        known = self.evidence.sessions()
        estimate = Estimate(count, is_linear, self.budget, len(known))
        self._remaining = estimate.sessions
        self.on_event(SearchStarted(estimate, tuple(self.evidence.problems())))
        end, kept = self._ask(Question(bad, good))
        checks = tuple(finding.check for finding in end.regressed)
        self._answered(end, Judgement("bad" if checks else "skip"), kept, checks)
        if not checks:
            kind: Kind = "unmeasured" if not end.findings else "not slower"
            return BisectOutcome(kind, end, self.rates)
        if self.retry:
            self._drop_skipped(known, end, checks)
        return self._search(BisectOutcome("range", end, self.rates, checks))

    def _search(self, outcome: BisectOutcome) -> BisectOutcome:
        folder = self.evidence.folder / _SEARCH
        remove_tree(folder)  # left behind by a run that was killed
        good, bad = self.good.commit, self.bad.commit
        try:
            search = Search(self.repository, good, bad, folder, self.first_parent)
            path = self._halve(search, outcome.checks)
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

    def _halve(self, search: Search, checks: tuple[CheckKey, ...]) -> list[JudgedCommit]:
        """Measure commits until no further one would narrow the range; return them in order."""
        path: list[JudgedCommit] = []
        while (commit := search.next()) is not None:
            # Halve what is left, of which the newest commit is known to be bad; then verify.
            self._remaining = (len(search.candidates()) - 1).bit_length() + 1
            session, kept = self._ask(Question(commit, self.good.commit, _tests(checks)))
            judged = JudgedCommit(session, judge(session, checks))
            path.append(judged)
            search.answer(commit, judged.judgement.call)
            self.evidence.keep_log(search.log())
            self._answered(session, judged.judgement, kept, checks)
        return path

    def _verify(self, outcome: BisectOutcome) -> BisectOutcome:
        """Measure the first bad commit again, against its own first parent."""
        first = outcome.candidates[0]
        self._remaining = 1
        question = Question(first.hash, first.parents[0], _tests(outcome.checks), fresh=True)
        session, kept = self._ask(question)
        judgement = judge(session, outcome.checks)
        self._answered(session, judgement, kept, outcome.checks)
        kind: Kind = "found" if judgement.call == "bad" else "unconfirmed"
        return replace(outcome, kind=kind, verification=session)

    def _ask(self, question: Question) -> tuple[BisectSession, bool]:
        """Return a commit's session, measured now unless stored, and whether it was stored."""
        self._number += 1
        known = self.evidence.find(question.commit, question.against, question.fresh)
        known = known or self._session_of_same_files(question)
        if known is not None:
            return known, True
        repository = self.repository
        commit = look_up(repository, question.commit)
        against = look_up(repository, question.against)
        self._same_machine("host", self.host)
        self.on_event(MeasuringCommit(commit, against, self._number))
        session = replace(self.oracle(question), host=self.host)
        self._same_machine("machine", session.machine)
        # If the bad end is not slower, or can't be measured, it is not stored: the next run asks
        # again, unless each repetition would be another chance of a false alarm.
        end = session.commit == self.bad.commit and not session.fresh
        if session.regressed or not end or (self.isolated and session.is_measured()):
            self.evidence.keep(session)
        return session, False

    def _session_of_same_files(self, question: Question) -> BisectSession | None:
        """Return the session of another commit with the same files, or None."""
        commit, against, fresh = question.commit, question.against, question.fresh
        if self._contents.same_files(commit, against):
            return BisectSession(commit, against, fresh=fresh, host=self.host, same_as=against)
        for known in self.evidence.sessions():
            if (known.against, known.fresh) == (against, fresh) and self._contents.same_files(
                commit, known.commit
            ):
                return replace(known, commit=commit, same_as=known.commit)
        return None

    def _answered(
        self, session: BisectSession, judgement: Judgement, kept: bool, checks: tuple[CheckKey, ...]
    ) -> None:
        self._remaining = max(0, self._remaining - 1)
        commit = look_up(self.repository, session.commit)
        self.on_event(
            CommitJudged(commit, JudgedCommit(session, judgement), kept, checks, self._remaining)
        )

    def _same_machine(self, kind: Literal["host", "machine"], this: str) -> None:
        """Refuse to mix machines: a slowdown on one may not exist on another.

        The host is known before a session, the machine key with its backend only after one.
        """
        others = {str(getattr(kept, kind)) for kept in self.evidence.sessions()} - {"", this}
        if this and others:
            raise EvidenceError(
                f"this search was started on {', '.join(sorted(others))}, but this machine is "
                f"{this}; continue there, or start over with --restart"
            )

    def _drop_skipped(
        self, known: Sequence[BisectSession], end: BisectSession, checks: tuple[CheckKey, ...]
    ) -> None:
        for session in known:
            if session == end or judge(session, checks).call != "skip":
                continue
            # If sessions share no evidence, repeating one until its call changes would add up
            # the chances of a wrong call.
            if not (session.fresh or self.isolated) or not session.is_measured(checks):
                self.evidence.drop(session)


def _tests(checks: Sequence[CheckKey]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check.test for check in checks))


#: Sessions besides the halving: the bad end, and the verification of the first bad commit.
_AROUND = 2


@dataclass(frozen=True)
class Estimate:
    """Bounds on the length of a search.

    Attributes:
        commits: number of commits that may be the first bad one.
        is_linear: whether the history is linear; with merges the bound is git's guess.
        budget: time limit of one session, seconds.
        known: number of sessions that need not be measured again.
    """

    commits: int
    is_linear: bool
    budget: float
    known: int = 0

    @property
    def search(self) -> int:
        """Number of sessions that halve the range until one commit is left."""
        return (self.commits - 1).bit_length()

    @property
    def sessions(self) -> int:
        """Number of all sessions, if no commit has to be skipped."""
        return self.search + _AROUND

    @property
    def longest(self) -> float:
        """Maximum total measuring time, seconds."""
        return max(0, self.sessions - self.known) * self.budget
