"""Exit codes that tell CI why a session failed, for ``--llmperf-exit-codes``.

==== =====================================================================
code meaning
==== =====================================================================
0    nothing failed
1    a test regressed, missed its target or broke: the change is at fault
10   invalid (and perhaps inconclusive): the machine was disturbed; run
     again on a quiet one
11   inconclusive only: the time budget was too small to decide
==== =====================================================================

pytest keeps 0 to 5 for itself; 1 is shared on purpose, because a regression is
an ordinary test failure. A failure caused by the change always wins, so that
a job that retries on 10 never hides a regression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import FailPolicy, Verdict, VerdictKind, failing_kinds

if TYPE_CHECKING:
    from collections.abc import Iterable

OK = 0
FAILED = 1
INVALID = 10
INCONCLUSIVE = 11

#: Exit code with ``--llmperf-exit-codes`` -> its meaning.
MEANINGS = {
    OK: "no test failed",
    FAILED: (
        "a test regressed, missed its target, broke, or has no baseline although one is required"
    ),
    INVALID: (
        "a test is `invalid` and none failed because of the change: the machine was disturbed. Run "
        "again on a quiet machine"
    ),
    INCONCLUSIVE: (
        "a test is `inconclusive`, and that fails the session (`--llmperf-strict`): raise "
        "`perf.budget`"
    ),
}


def session_exit_code(
    verdicts: Iterable[Verdict],
    policy: FailPolicy | None = None,
    *,
    ordinary_failures: bool = False,
) -> int:
    """Return the exit code of a session with these verdicts.

    ``ordinary_failures``: whether tests failed for other reasons, which gives code 1.
    Verdicts on metrics that are only shown do not count.
    """
    failing = {kind for v in verdicts if v.check.gated for kind in failing_kinds(v, policy)}
    if ordinary_failures or failing - {VerdictKind.INVALID, VerdictKind.INCONCLUSIVE}:
        return FAILED
    if VerdictKind.INVALID in failing:
        return INVALID
    return INCONCLUSIVE if failing else OK
