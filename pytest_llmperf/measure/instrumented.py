"""Findings about tracers and debug modes that were on in an engine's process."""

from __future__ import annotations

from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.machine.fitness import FitnessFinding

#: By fitness check: the first words of its findings.
INSTRUMENT_CHECKS = {
    "traced": "the engine's process was traced or profiled",
    "debug_mode": "the engine's process ran in a debug mode",
}

_BEFORE, _SINCE = "on before the engine was loaded", "turned on since by what runs in it"


def instrument_findings(generation: Generation) -> list[FitnessFinding]:
    """Return findings about tracers and debug modes in the process of a generation."""
    findings = []
    for check, what in INSTRUMENT_CHECKS.items():
        found = [one for one in generation.instruments if one.check == check]
        if not found:
            continue
        places = [f"{one.name}, {_BEFORE if one.from_outside else _SINCE}" for one in found]
        evidence = {one.name: "outside" if one.from_outside else "engine" for one in found}
        text = f"{what}: {'; '.join(places)}"
        findings.append(FitnessFinding(check, "invalid", text, {"found": evidence}))
    return findings
