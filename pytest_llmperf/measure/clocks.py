"""Check that both sides of a pair were measured at the same CPU and GPU clocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.fitness_checks import Severity
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.process_sample import BASE, ProcessSample, with_finding

#: Allowed difference between two clocks, as a share of the higher one.
_APART = 0.1
#: Minimum number of samples of a GPU's clock.
_SAMPLES = 5
#: Counters of a GPU's clocks, by the name of the clock in messages.
_COUNTERS = {"SM": "sm_mhz", "memory": "memory_mhz"}


def void_if_clocks_differ(
    halves: Sequence[ProcessSample],
    loaded: Mapping[str, EngineInfo],
    severities: Mapping[str, Severity],
) -> list[ProcessSample]:
    """Return the samples of a pair, void if a clock was far lower for one of them.

    Args:
        halves: samples of the pair; any other number of samples is returned unchanged.
        loaded: the engines by side. If their threads or layers on GPUs differ, that may be why
            the clocks differ, so there is only a warning.
        severities: severity by check, as configured in ``perf.fitness``.
    """
    alike = len({_where(info) for info in loaded.values()}) == 1
    finding = _difference(halves, "invalid" if alike else "warn") if len(halves) == 2 else None
    return list(halves) if finding is None else with_finding(halves, finding, severities)


def _where(info: EngineInfo) -> tuple[int, int, int]:
    """Return an engine's numbers of threads and of layers on GPUs."""
    return info.n_threads, info.n_threads_batch, info.gpu.layers_on_gpu if info.gpu else 0


def _difference(halves: Sequence[ProcessSample], severity: Severity) -> FitnessFinding | None:
    """Find the first known clock that differs; None if there is none."""
    base, candidate = sorted(halves, key=lambda half: half.side != BASE)
    at_base = dict(_clocks(base))
    for name, mhz in _clocks(candidate):
        other = at_base.get(name)
        if other is None or abs(mhz - other) <= _APART * max(mhz, other):
            continue
        text = (
            f"{name} ran at {mhz:.0f} MHz for the candidate and at {other:.0f} MHz for the base "
            "side; lock the clock, or let the machine cool down; if the code itself changes the "
            "clock, perf.fitness.clocks_differ: note judges the difference"
        )
        evidence = {"clock": name, "candidate_mhz": mhz, "base_mhz": other}
        return FitnessFinding("clocks_differ", severity, text, evidence)
    return None


def _clocks(sample: ProcessSample) -> Iterator[tuple[str, float]]:
    """Yield the known clocks while this side worked: name and MHz.

    GPUs at their power limit are left out: there the work itself determines the clock.
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
