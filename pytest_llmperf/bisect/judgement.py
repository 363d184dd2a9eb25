"""Judges a session for the search: bad, good, or skip where neither can be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_llmperf.bisect.session import FINE, REGRESSED, BisectSession, CheckKey

#: In the words of ``git bisect``.
Call = Literal["bad", "good", "skip"]

_SHOWN = 2


@dataclass(frozen=True)
class Judgement:
    """A call and its reason.

    Attributes:
        call: ``bad`` if any metric that counts regressed, ``good`` if all of them are
            fine, else ``skip``.
        reason: of a ``skip``, in one line; else empty.
    """

    call: Call
    reason: str = ""


def judge(session: BisectSession, checks: Sequence[CheckKey]) -> Judgement:
    """Judge a commit by the metrics that count: those that regressed at the bad end."""
    if session.is_base:
        return Judgement("good")
    if session.problem:
        return Judgement("skip", session.problem.splitlines()[0])
    unclear = []
    bad = False
    for check in checks:
        finding = session.find(check)
        if finding is None:
            unclear.append(f"{check.test} [{check.metric}] was not measured")
        elif finding.verdict == REGRESSED:
            bad = True
        elif finding.verdict not in FINE:
            unclear.append(f"{check.test} [{check.metric}] {finding.verdict}: {finding.text}")
    if bad:
        return Judgement("bad")
    if unclear:
        more = f"; and {len(unclear) - _SHOWN} more" if len(unclear) > _SHOWN else ""
        return Judgement("skip", "; ".join(unclear[:_SHOWN]).replace("\n", " ") + more)
    return Judgement("good")
