"""Whether the two sides of a pair were measured at the same clocks of CPU and GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.fitness_checks import Severity
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.process_sample import BASE, ProcessSample, with_finding

#: By how much of the higher one two clocks may differ.
_APART = 0.1
#: Minimum number of a GPU's samples.
_SAMPLES = 5
#: Counters of a GPU by what they are called.
_COUNTERS = {"SM": "sm_mhz", "memory": "memory_mhz"}


def with_equal_clocks(
    halves: Sequence[ProcessSample],
    loaded: Mapping[str, EngineInfo],
    severities: Mapping[str, Severity],
) -> list[ProcessSample]:
    """Return the samples of a pair, void if a clock was far lower for one of them.

    Args:
        halves: of the pair; any other number is returned as it is.
        loaded: the engines by side. Where they compute on other threads or layers, another clock
            may come of that, and only a warning says so.
        severities: of ``perf.fitness``.
    """
    alike = len({_where(one) for one in loaded.values()}) == 1
    found = _difference(halves, "invalid" if alike else "warn") if len(halves) == 2 else None
    return list(halves) if found is None else with_finding(halves, found, severities)


def _where(info: EngineInfo) -> tuple[int, int, int]:
    """Return the threads of an engine, and its layers on GPUs."""
    return info.n_threads, info.n_threads_batch, info.gpu.layers_on_gpu if info.gpu else 0


def _difference(halves: Sequence[ProcessSample], severity: Severity) -> FitnessFinding | None:
    """Find the first clock that differs; None if none does, as far as they are known."""
    base, candidate = sorted(halves, key=lambda one: one.side != BASE)
    at_base = dict(_clocks(base))
    for name, mhz in _clocks(candidate):
        other = at_base.get(name)
        if other is None or abs(mhz - other) <= _APART * max(mhz, other):
            continue
        text = (
            f"{name} ran at {mhz:.0f} MHz for the candidate and at {other:.0f} MHz for the base "
            "side; fix the clock, or let the machine cool down; if the code itself changes the "
            "clock, perf.fitness.clocks_differ: note judges the difference"
        )
        evidence = {"clock": name, "candidate_mhz": mhz, "base_mhz": other}
        return FitnessFinding("clocks_differ", severity, text, evidence)
    return None


def _clocks(sample: ProcessSample) -> Iterator[tuple[str, float]]:
    """Yield the clocks that are known while this side worked: what of, and MHz.

    At its power limit a GPU's clock is what the work leaves of it.
    """
    if sample.cpu_mhz is not None:
        yield "the CPU", sample.cpu_mhz
    for device in sample.telemetry.devices if sample.telemetry else ():
        if not device.used or device.at_power_limit:
            continue
        for kind, counter in _COUNTERS.items():
            spread = device.counters.get(counter)
            if spread is not None and spread.samples >= _SAMPLES:
                yield f"the {kind} clock of the {device.facts.label}", spread.mean
