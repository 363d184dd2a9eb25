"""The baseline strategy: this session against what the same workload measured earlier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.protocol import verdict_of
from pytest_llmperf.gate.rules import change_kind, compare, is_comparable, is_decidable
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.gate.words import change_words, count, percent
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence

_NO_RECORD = "no earlier session on this machine holds this test"
_OTHER_WORK = "the test asks the engine for other work than its baseline did"


class BaselineStrategy:
    """Judges the slowdown of the current median against the baseline's by the tolerance."""

    name = "baseline"

    def judge(self, evidence: Evidence) -> Verdict:
        """Return ``regressed``, ``pass`` or ``improved``, or why there is no comparison.

        ``inconclusive`` where too little was measured; ``no baseline`` and
        ``workload changed`` as the baseline's status says.
        """
        check, view = evidence.check, evidence.baseline
        numbers = compare(evidence)
        if view is not None and view.status == "workload changed":
            text = view.detail or _OTHER_WORK
            return verdict_of(self.name, VerdictKind.WORKLOAD_CHANGED, evidence, numbers, text)
        if view is None or not is_comparable(view):
            text = (view.detail if view is not None else "") or _NO_RECORD
            return verdict_of(self.name, VerdictKind.NO_BASELINE, evidence, numbers, text)
        current, baseline, change = numbers.current, numbers.baseline, numbers.change
        if current is None or baseline is None or change is None:
            text = "nothing was measured to compare with the baseline"
            return verdict_of(self.name, VerdictKind.INCONCLUSIVE, evidence, numbers, text)
        unit = check.metric.unit
        words = change_words(check.metric, change)
        link = "from" if words == "no change" else "than"
        text = (
            f"{words} {link} the baseline: "
            f"{format_quantity(current.value, unit)}, was {format_quantity(baseline.value, unit)} "
            f"over {count(numbers.baseline_sessions, 'session')}; "
            f"tolerance {percent(check.tolerance)}"
        )
        kind = change_kind(change, check.tolerance)
        if not is_decidable(evidence):
            kind, text = VerdictKind.INCONCLUSIVE, f"so far {text}"
        return verdict_of(self.name, kind, evidence, numbers, text)
