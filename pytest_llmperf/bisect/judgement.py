"""What a session means to the search: bad, good, or nothing that could be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_llmperf.bisect.session import FINE, REGRESSED, Pair, Session

#: In the words of ``git bisect``.
Call = Literal["bad", "good", "skip"]

_SHOWN = 2


@dataclass(frozen=True)
class Judgement:
    """A call, and why.

    Attributes:
        call: ``bad`` if any metric that counts regressed, ``good`` if all of them are
            fine, else ``skip``.
        reason: of a ``skip``, in one line; else empty.
    """

    call: Call
    reason: str = ""


def judge(session: Session, pairs: Sequence[Pair]) -> Judgement:
    """Judge a commit by the metrics that count: those that regressed at the bad end."""
    if session.is_base:
        return Judgement("good")
    if session.problem:
        return Judgement("skip", session.problem.splitlines()[0])
    unclear = []
    bad = False
    for pair in pairs:
        finding = session.find(pair)
        if finding is None:
            unclear.append(f"{pair.test} [{pair.metric}] was not measured")
        elif finding.verdict == REGRESSED:
            bad = True
        elif finding.verdict not in FINE:
            unclear.append(f"{pair.test} [{pair.metric}] {finding.verdict}: {finding.text}")
    if bad:
        return Judgement("bad")
    if unclear:
        more = f"; and {len(unclear) - _SHOWN} more" if len(unclear) > _SHOWN else ""
        return Judgement("skip", "; ".join(unclear[:_SHOWN]).replace("\n", " ") + more)
    return Judgement("good")
