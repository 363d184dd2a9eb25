"""Result of a search, and bounds on the chance that it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_llmperf.bisect.history import Commit
from pytest_llmperf.bisect.session import BisectFinding, BisectSession, CheckKey, Judgement

#: ``found``: a single commit, whose own effect is proven. ``unconfirmed``: a single commit, but the
#: comparison with its parent proves nothing. ``range``: skipped commits leave several candidates.
#: ``not slower``: nothing regressed at the bad end. ``unmeasured``: the bad end can't be measured.
Kind = Literal["found", "unconfirmed", "range", "not slower", "unmeasured"]


@dataclass(frozen=True)
class Rates:
    """Declared error rates of one session's calls.

    Attributes:
        false_alarm: chance that any check with a negligible change is called ``regressed``.
        false_pass: chance that a metric that is slower by the tolerance or more passes.
        tolerance: a fraction; None if calibrations set it for each check (``auto``).
    """

    false_alarm: float
    false_pass: float
    tolerance: float | None


@dataclass(frozen=True)
class JudgedCommit:
    """A measured commit: its session and the call."""

    session: BisectSession
    judgement: Judgement


@dataclass(frozen=True)
class BisectOutcome:
    """The result of a search.

    Attributes:
        kind: kind of result, see ``Kind``.
        checks: the checks that regressed at the bad end; every commit was judged by them.
        end: the session of the bad end against the good end.
        path: the commits that were judged, in order, without the bad end.
        candidates: commits that may be the first bad one, newest first; one if it was found.
        skipped: the candidates that could not be judged.
        strays: hashes of candidates that do not descend from the good commit; they may be slower
            only because they lack a change that made the good commit fast.
        verification: the session of the first bad commit against its own first parent.
        rates: error rates of every call.
    """

    kind: Kind
    end: BisectSession
    rates: Rates
    checks: tuple[CheckKey, ...] = ()
    path: tuple[JudgedCommit, ...] = ()
    candidates: tuple[Commit, ...] = ()
    skipped: tuple[Commit, ...] = ()
    strays: tuple[str, ...] = ()
    verification: BisectSession | None = None

    @property
    def first(self) -> Commit | None:
        """The first bad commit, if only a single candidate is left."""
        return self.candidates[0] if self.kind in ("found", "unconfirmed") else None

    def calls(self, call: str) -> int:
        """Return how many measured commits got this call, the bad end included.

        A commit with the same files as another commit is not counted: it shares that one's call.
        """
        measured = [judged for judged in self.path if not judged.session.same_as]
        return (call == "bad") + sum(judged.judgement.call == call for judged in measured)

    @property
    def search_error(self) -> float:
        """Return a bound on the chance that any call of the search is wrong.

        By Boole's inequality, the sum of the declared rates: that of a false alarm for each
        ``bad`` call, that of a false pass for each ``good`` call.
        """
        wrong = self.calls("bad") * self.rates.false_alarm
        return min(1.0, wrong + self.calls("good") * self.rates.false_pass)

    @property
    def own_error(self) -> float | None:
        """Return a bound on the chance that the named commit has no effect of its own.

        It is the rate of a single false alarm, because the verification is a separate session
        made after the search had chosen the commit. None if it did not confirm the commit.
        """
        return self.rates.false_alarm if self.kind == "found" else None

    def effects(self) -> tuple[BisectFinding, ...]:
        """Return the effects of the first bad commit alone, as the verification measured them."""
        if self.verification is None:
            return ()
        return findings_on(self.verification, self.checks)


def findings_on(session: BisectSession, checks: Sequence[CheckKey]) -> tuple[BisectFinding, ...]:
    """Return a session's findings on the given checks, in the order of the checks."""
    findings = [session.find(check) for check in checks]
    return tuple(finding for finding in findings if finding is not None)
