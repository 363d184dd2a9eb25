"""Two processes side by side: the choice of their tests, and signs that they disturb each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.measure.process_sample import ProcessSample
from pytest_llmperf.measure.turns import Turns

#: Fitness checks whose findings may come from running two processes instead of one.
_MEMORY = frozenset({"gpu_memory_pressure", "major_faults", "memory_pressure", "swapping"})


def choose_tests(
    waiting: list[str], alone: Collection[str], pairs: Callable[[str], int], turns: Turns
) -> tuple[list[str], Turns | None]:
    """Return the tests of the next round, and the kind of turns of its processes, if any.

    Rounds with and without turns alternate, so that neither kind of test uses up the budget.

    Args:
        waiting: node ids of tests that need a round.
        alone: node ids of tests whose processes must run one after the other.
        pairs: returns how many pairs a test has.
        turns: kind of turns that all other tests take.
    """
    without = [nodeid for nodeid in waiting if nodeid in alone]
    others = [nodeid for nodeid in waiting if nodeid not in alone]
    if without and (not others or min(map(pairs, without)) <= min(map(pairs, others))):
        return without, None
    return others, turns


def fewer_layers(by_itself: EngineInfo | None, beside: EngineInfo) -> str:
    """Say that an engine has fewer layers on the GPU than when it ran alone; '' if it hasn't."""
    if by_itself is None or by_itself.gpu is None or beside.gpu is None:
        return ""
    if beside.gpu.layers_on_gpu >= by_itself.gpu.layers_on_gpu:
        return ""
    return (
        f"{beside.gpu.share} layers fitted on the GPU beside the other process, "
        f"{by_itself.gpu.share} without it"
    )


def short_of_memory(samples: Iterable[Sequence[ProcessSample]]) -> str:
    """Return a finding that voided a sample and that a second process may have caused, or ''."""
    for sample in chain.from_iterable(samples):
        for finding in sample.findings:
            if finding.severity == "invalid" and finding.name in _MEMORY:
                return finding.text
    return ""
