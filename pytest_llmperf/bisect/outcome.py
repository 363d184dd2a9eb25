"""The result of a search, and bounds on the chance that it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_llmperf.bisect.history import Commit
from pytest_llmperf.bisect.session import BisectFinding, BisectSession, CheckKey, Judgement

#: ``found``: one commit, and its own effect is proven. ``unconfirmed``: one commit, but compared
#: with its own parent alone nothing is proven. ``range``: skipped commits hide which one.
#: ``not slower``: nothing regressed at the bad end. ``unmeasured``: the bad end can't be measured.
Kind = Literal["found", "unconfirmed", "range", "not slower", "unmeasured"]


@dataclass(frozen=True)
class Rates:
    """Declared error rates of one session's calls.

    Attributes:
        false_alarm: chance that anything whose change is negligible is called ``regressed``.
        false_pass: chance that a metric slower by the tolerance or more passes.
        tolerance: a fraction; None where calibrations give it (``auto``), to each check its own.
    """

    false_alarm: float
    false_pass: float
    tolerance: float | None


@dataclass(frozen=True)
class JudgedCommit:
    """A commit that was asked about, with its session and the call."""

    session: BisectSession
    judgement: Judgement


@dataclass(frozen=True)
class BisectOutcome:
    """The result of a search.

    Attributes:
        kind: what it is.
        checks: those that regressed at the bad end, by which all commits were judged.
        end: the session of the bad end against the good one.
        path: the commits that were asked about, in order; without the bad end.
        candidates: commits that may be the first bad one, newest first; one if it was found.
        skipped: those candidates that could not be judged.
        strays: hashes of those candidates that do not descend from the good commit: they may be
            slower only because they lack what made it fast.
        verification: the first bad commit against its own first parent.
        rates: of every call.
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
        """The first bad commit, if it is a single one."""
        return self.candidates[0] if self.kind in ("found", "unconfirmed") else None

    def calls(self, call: str) -> int:
        """Return how often measuring led to this call, the bad end's included.

        A commit with the files of another one rests on the call about that one.
        """
        measured = [each for each in self.path if not each.session.same_as]
        return (call == "bad") + sum(each.judgement.call == call for each in measured)

    @property
    def search_error(self) -> float:
        """Return a bound on the chance that a call the search rests on is wrong.

        The sum of the calls' declared rates (Boole): each ``bad`` by the false-alarm
        rate, each ``good`` by that of a false pass.
        """
        wrong = self.calls("bad") * self.rates.false_alarm
        return min(1.0, wrong + self.calls("good") * self.rates.false_pass)

    @property
    def own_error(self) -> float | None:
        """Return a bound on the chance that a commit with no effect of its own was named.

        That of one false alarm: the verification is a session of its own, made
        after the search had chosen. None where it did not confirm.
        """
        return self.rates.false_alarm if self.kind == "found" else None

    def effects(self) -> tuple[BisectFinding, ...]:
        """Return the effects of the first bad commit alone, by the verification."""
        if self.verification is None:
            return ()
        return counting(self.verification, self.checks)


def counting(session: BisectSession, checks: Sequence[CheckKey]) -> tuple[BisectFinding, ...]:
    """Return a session's findings on these checks, in their order."""
    found = [session.find(check) for check in checks]
    return tuple(finding for finding in found if finding is not None)
