"""Sentences about a comparison that its text and its Markdown share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.combine import checks
from pytest_llmperf.gate.verdict import UNCOMPARED, VerdictKind
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.text import shell_word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.compare.result import ComparisonResult
    from pytest_llmperf.gate.verdict import Verdict

#: More baseline files than this are named by the first and the last of them.
_FILES = 3


def headline(result: ComparisonResult) -> str:
    """Count the verdicts in one line: ``3 tests, 9 checks: 1 regressed, 8 pass``."""
    kinds = result.kinds
    tests = count(len(result.session.tests), "test")
    if not kinds:
        return f"{tests}: nothing was judged"
    counted = ", ".join(f"{number} {kind.value}" for kind, number in kinds.items())
    return f"{tests}, {count(sum(kinds.values()), 'check')}: {counted}"


def remarks(result: ComparisonResult) -> Iterator[str]:
    """Write what a reader should know beside the verdicts, a sentence each."""
    found = [verdict for test in result.session.tests for verdict in checks(test.verdicts)]
    if any(verdict.change is not None for verdict in found):
        yield (
            "chance of any false regressed in this comparison: "
            f"{percent(result.session.false_alarms)} at most"
        )
    undecided = [verdict for verdict in found if verdict.kind is VerdictKind.INCONCLUSIVE]
    if undecided:
        fails = "fails, as --strict asks" if result.strict else "passes; with --strict it fails"
        yield (
            f"{count(len(undecided), 'check')} inconclusive: neither a slowdown nor its absence is "
            f"proven ({fails})"
        )
        # What a report's own session left undecided rests on no stored sessions.
        if compared := [verdict for verdict in undecided if verdict.proof is not None]:
            yield from _what_would_decide(compared)
    if any(verdict.kind in UNCOMPARED for verdict in found):
        yield "what has another workload, or no baseline, is shown and not judged"


def _what_would_decide(undecided: list[Verdict]) -> Iterator[str]:
    needed = [verdict.proof.more if verdict.proof else None for verdict in undecided]
    known = [more for more in needed if more is not None]
    if len(known) == len(needed):
        yield f"about {count(max(known), 'more recorded session')} of the base would, if alike"
    else:
        yield "more recorded sessions would narrow the interval, but probably not decide"


def interleaved_command(result: ComparisonResult) -> str | None:
    """The command that measures both sides in one session, from the candidate's tree; or None."""
    undecided = {VerdictKind.INCONCLUSIVE, VerdictKind.REGRESSED} & set(result.kinds)
    if result.against is None or not undecided:
        return None
    return f"pytest -m perf --llmperf-against {shell_word(result.against)}"


def base_files(result: ComparisonResult) -> Iterator[str]:
    """Name the base's files that were compared with: each, or the first and the last of many."""
    sources = [source for source in result.session.baseline_sources if source != result.base]
    if len(sources) <= _FILES:
        yield from sources
    else:
        first, last = sources[0], sources[-1]
        yield f"{count(len(sources), 'session')}, {first} to {last}"


def recorded_differences(result: ComparisonResult) -> list[str]:
    """The recorded differences besides speed, each once over all tests."""
    return list(dict.fromkeys(d for test in result.session.tests for d in test.differences))
