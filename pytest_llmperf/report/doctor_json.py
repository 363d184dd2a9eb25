"""The JSON that ``llmperf doctor --json`` writes.

    {schema, error, interrupted, machine {usable_cpus, memory_bytes, gpus [text]}, model,
     engine, layers_on_gpu, total_layers, workload {prompt_tokens, output_tokens},
     metrics {name: value}, roofline (as of a test in the report of --llmperf-json), fitness
     [{name, severity, text, evidence}], findings [finding], without_gain [finding], not_tried
     [finding], together gain, notes [text]}

A finding is {name, title, theme, evidence, certain, change, settings {key: value}, hint,
gain}; a gain is {outcome, pairs, why, changes {metric: {speedup, low, high}}}, how many times
faster with the change, the interval at 95%; outcome is gain, no gain, slower, undecided or
failed. Values are in base units; what is not known, or was not tried, is null.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_llmperf.session.roofline import roofline_json

if TYPE_CHECKING:
    from pytest_llmperf.config.load import LoadedConfig
    from pytest_llmperf.doctor.checkup import Checkup, CheckupFinding
    from pytest_llmperf.doctor.gain import Gain
    from pytest_llmperf.session.roofline import RooflineShare

SCHEMA_VERSION = 1


def as_json(
    checkup: Checkup, loaded: LoadedConfig, limit: RooflineShare | None = None
) -> dict[str, Any]:
    """Return plain JSON types, shaped as the module says."""
    situation = checkup.situation
    info = situation.info if situation is not None else None
    layers = situation.layers if situation is not None else None
    return {
        "schema": SCHEMA_VERSION,
        "error": checkup.error or None,
        "interrupted": checkup.interrupted,
        "machine": _machine(checkup),
        "model": info.model_name if info is not None else loaded.config.llm.model_path,
        "engine": f"{info.engine} {info.engine_version}" if info is not None else None,
        "layers_on_gpu": layers.layers_on_gpu if layers is not None else None,
        "total_layers": layers.total_layers if layers is not None else None,
        "workload": {
            "prompt_tokens": checkup.probe.use.prompt_tokens or None,
            "output_tokens": checkup.probe.use.output_tokens,
        }
        if checkup.probe is not None
        else None,
        "metrics": dict(situation.metrics) if situation is not None else {},
        "roofline": roofline_json(limit),
        "fitness": [asdict(found) for found in (situation.findings if situation else ())],
        "findings": [_finding(one) for one in checkup.findings],
        "without_gain": [_finding(one) for one in checkup.without_gain],
        "not_tried": [_finding(one) for one in checkup.not_tried],
        "together": _gain(checkup.together),
        "notes": list(checkup.notes),
    }


def _machine(checkup: Checkup) -> dict[str, Any] | None:
    if checkup.situation is None:
        return None
    hardware = checkup.situation.hardware
    return {
        "usable_cpus": hardware.usable_cpus,
        "memory_bytes": hardware.memory.total,
        "gpus": [card.name for card in hardware.cards],
    }


def _finding(one: CheckupFinding) -> dict[str, Any]:
    cause, evidence = one.found.cause, one.found.evidence
    return {
        "name": cause.name,
        "title": cause.title,
        "theme": cause.theme,
        "evidence": evidence.text,
        "certain": evidence.certain,
        "change": evidence.remedy.change,
        "settings": dict(evidence.remedy.settings),
        "hint": evidence.remedy.hint or None,
        "gain": _gain(one.gain),
    }


def _gain(gain: Gain | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {
        "outcome": gain.outcome,
        "pairs": gain.pairs,
        "why": gain.why or None,
        "changes": {
            name: dict(zip(("speedup", "low", "high"), map(_finite, change.speedup), strict=True))
            for name, change in gain.changes.items()
        },
    }


def _finite(value: float) -> float | None:
    """An end of an interval that is not known yet is null."""
    return value if math.isfinite(value) and value > 0 else None
