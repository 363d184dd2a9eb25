"""Findings about tracers and debug modes that are active in an engine's process."""

from __future__ import annotations

from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.machine.fitness import FitnessFinding

#: First words of each fitness check's findings.
INSTRUMENT_CHECKS = {
    "traced": "the engine's process was traced or profiled",
    "debug_mode": "the engine's process ran in a debug mode",
}

_BEFORE, _SINCE = "on before the engine was loaded", "turned on later by code running in it"


def instrument_findings(generation: Generation) -> list[FitnessFinding]:
    """Return findings about tracers and debug modes in the process of a generation."""
    findings = []
    for check, opening in INSTRUMENT_CHECKS.items():
        active = [item for item in generation.instruments if item.check == check]
        if not active:
            continue
        places = [f"{item.name}, {_BEFORE if item.from_outside else _SINCE}" for item in active]
        evidence = {item.name: "outside" if item.from_outside else "engine" for item in active}
        text = f"{opening}: {'; '.join(places)}"
        findings.append(FitnessFinding(check, "invalid", text, {"found": evidence}))
    return findings
