"""The result of ``llmperf doctor`` as text and as JSON: configuration, speed, causes found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_llmperf.diagnosis.cause import Remedy
from pytest_llmperf.diagnosis.sizes import bytes_text
from pytest_llmperf.doctor.gain import JUDGED_METRICS, RemedyChange, RemedyGain, looks_slower
from pytest_llmperf.engine.context_room import context_rounding
from pytest_llmperf.gate.words import change_words, count, effect_words
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.report.cells import summary_text, target_text
from pytest_llmperf.report.doctor_server import load_facts, server_facts, server_json
from pytest_llmperf.session.roofline import roofline_json, roofline_lines
from pytest_llmperf.stats.summary import summarise
from pytest_llmperf.text import printable, wrap_words
from pytest_llmperf.units import format_duration, format_quantity

if TYPE_CHECKING:
    from pytest_llmperf.config.load import LoadedConfig
    from pytest_llmperf.diagnosis.situation import Hardware
    from pytest_llmperf.doctor.checkup import Checkup, CheckupFinding
    from pytest_llmperf.doctor.gain import RemedyGain
    from pytest_llmperf.metric_types import Metric
    from pytest_llmperf.session.roofline import RooflineShare


SCHEMA_VERSION = 1
#: An interval end (natural logarithm) at least this far from 0 counts as unknown.
_UNKNOWN = 5.0

#: Metrics of the line about speed, in order.
_SPEED = ("tokens_per_sec", "first_token", "prefill_tokens_per_sec", "end_to_end")
#: Smallest difference in start-up time worth mentioning, as a share of that time.
_START_PART = 0.2
#: Width of the labels, in columns.
_LABEL = 9


def render(
    checkup: Checkup, loaded: LoadedConfig, width: int = 80, limit: RooflineShare | None = None
) -> list[str]:
    """Draw a checkup for a terminal ``width`` columns wide; one string per line.

    ``limit``: the limit set by this machine's memory, if known.
    """
    lines = wrap_words(headline(checkup), width)
    for label, text in _facts(checkup, loaded):
        lines += _labelled(label, text, width)
    for text in roofline_lines(limit):
        lines += _labelled("limit", text.removeprefix("roofline: "), width)
    why, tail = _split_error(checkup.error)
    if why:
        lines += ["", *(line for text in why for line in wrap_words(text, width))]
    for number, finding in enumerate(checkup.findings, 1):
        lines += ["", *_finding(number, finding, loaded, width)]
    lines += _remarks(checkup, width)
    return [*lines, "", *map(printable, tail)] if tail else lines


def headline(checkup: Checkup) -> str:
    """Return the result in one line."""
    causes = count(len(checkup.findings), "cause")
    if checkup.interrupted:
        # What was not examined may still be slow.
        so_far = causes if checkup.findings else "no cause"
        return f"interrupted before it was finished: {so_far} found so far"
    if checkup.error and checkup.situation is not None and checkup.situation.info is None:
        asked = checkup.situation.config.get("url")
        failed = "the server can't be asked" if asked else "the engine can't be loaded"
        return failed + (f": {causes} found" if checkup.findings else "")
    if checkup.error:
        return "the engine loads but can't be measured" + (
            f": {causes} found" if checkup.findings else ""
        )
    if not checkup.findings and checkup.not_tried:
        number = len(checkup.not_tried)
        helps = "helps" if number == 1 else "help"
        return f"no cause is certain; it is undecided whether {count(number, 'change')} {helps}"
    if not checkup.findings:
        return "no cause of slowness found"
    return f"{causes} found" + (", the costliest first" if len(checkup.findings) > 1 else "")


def gain_words(gain: RemedyGain) -> str:
    """Return a remedy's effect: ``decode 29.6% faster [27.5% to 32.0%], first token no change``."""
    changes = gain.changes
    parts = [_change_text(name, changes[name]) for name in JUDGED_METRICS if name in changes]
    return ", ".join(parts)


def _change_text(name: str, change: RemedyChange) -> str:
    metric = get_metric(name)
    label = "decode" if metric.name == "tokens_per_sec" else metric.label
    if abs(change.low) >= _UNKNOWN or abs(change.high) >= _UNKNOWN:
        return f"{label} {change_words(metric, math.expm1(change.effect))}"
    effect, low, high = map(math.expm1, (change.effect, change.low, change.high))
    return f"{label} {effect_words(metric, effect, low, high)}"


def _facts(checkup: Checkup, loaded: LoadedConfig) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each thing that was examined."""
    from pytest_llmperf.config.llm_section import ModelSettings, TargetSettings

    situation = checkup.situation
    if situation is None:
        return
    llm, info = loaded.config.llm, situation.info
    # A server that was already running may be on another machine.
    here = "machine" if llm.kind.of_section(llm.resolved()).computes_here else "client"
    yield here, _machine(situation.hardware)
    n_ctx = int(getattr(llm, "n_ctx", 0))
    if isinstance(llm, TargetSettings):
        yield "engine", f"application {llm.target}"
    elif checkup.server is not None:
        yield from server_facts(
            checkup.server, info, llm.kind.identity_without_model(llm.resolved())
        )
    elif not isinstance(llm, ModelSettings):
        yield "engine", f"{llm.engine}: {llm.kind.identity_without_model(llm.resolved())}"
    elif info is None:
        file_size = f", {bytes_text(situation.model_bytes)}" if situation.model_bytes else ""
        yield "model", f"{llm.model_path}{file_size}; n_ctx: {n_ctx}"
    else:
        # The file's name often includes the quantization.
        model_name = info.model_name
        if info.quantization and info.quantization.lower() not in model_name.lower():
            model_name = f"{model_name} {info.quantization}"
        context = f"n_ctx: {n_ctx}{context_rounding(n_ctx, info.n_ctx)}"
        yield "model", f"{model_name}, {bytes_text(info.file_bytes)}; {context}"
        yield "engine", _engine(checkup)
    if checkup.measured is not None and checkup.measured.rows:
        yield "speed", _speed(checkup)
    if checkup.server is not None:
        yield from load_facts(checkup.server)
    if targets := "; ".join(_targets(checkup, loaded.config.perf.targets)):
        yield "targets", targets


def _targets(checkup: Checkup, targets: Mapping[str, float]) -> Iterator[str]:
    """Compare the configured targets with the measurements, alone and under load."""
    alone = checkup.situation.metrics if checkup.situation is not None else {}
    load = checkup.server.load if checkup.server is not None else None
    for name, limit in targets.items():
        metric = get_metric(name)
        measured = [("", alone), (" under load", load.metrics if load is not None else {})]
        results = [
            f"{format_quantity(values[name], metric.unit)}{where} "
            f"({'missed' if _misses(metric, values[name], limit) else 'met'})"
            for where, values in measured
            if name in values
        ]
        yield f"{metric.label} {target_text(limit, metric)}: {', '.join(results) or 'not measured'}"


def _misses(metric: Metric, value: float, limit: float) -> bool:
    return value < limit if metric.limit_kind == "min" else value > limit


def _machine(hardware: Hardware) -> str:
    from pytest_llmperf.machine.cpu import read_cpu, short_name

    cpus = count(hardware.usable_cpus, "usable CPU")
    cards = ", ".join(dict.fromkeys(card.name for card in hardware.cards)) or "no GPU seen"
    return f"{short_name(read_cpu())}, {cpus}, {bytes_text(hardware.memory.total)}; {cards}"


def _engine(checkup: Checkup) -> str:
    assert checkup.situation is not None
    info, layers = checkup.situation.info, checkup.situation.layers
    assert info is not None
    text = f"{info.engine} {info.engine_version}"
    if layers is not None:
        devices = [d.description or d.name for d in checkup.situation.gpu_devices]
        on = f" ({', '.join(dict.fromkeys(devices))})" if devices and layers.layers_on_gpu else ""
        text += f"; {layers.layers_on_gpu}/{layers.total_layers} layers on GPU{on}"
    text += f"; {count(info.n_threads, 'thread')}"
    if info.flash_attn is None:
        return text
    return f"{text}; flash attention {'on' if info.flash_attn else 'off'}"


def _speed(checkup: Checkup) -> str:
    measured, probe = checkup.measured, checkup.probe
    assert measured is not None
    parts = []
    for name in _SPEED:
        if rows := measured.rows.get(name):
            label = "decode" if name == "tokens_per_sec" else get_metric(name).label
            parts.append(f"{label} {summary_text(summarise(rows), get_metric(name))}")
    work = probe.workload.summary if probe is not None else ""
    return f"{', '.join(parts)} ({work}; {count(measured.processes, measured.unit)})"


def _labelled(label: str, text: str, width: int) -> list[str]:
    return wrap_words(text, width, indent=" " * _LABEL, first=label.ljust(_LABEL))


def _split_error(error: str) -> tuple[list[str], list[str]]:
    """Split an error into its message and the engine's log, which is long and shown last."""
    why: list[str] = []
    tail: list[str] = []
    for line in error.splitlines():
        of_log = line.startswith(("  | ", "last lines of the engine's log"))
        (tail if of_log else why).append(line)
    return why, tail


def _finding(number: int, finding: CheckupFinding, loaded: LoadedConfig, width: int) -> list[str]:
    cause, evidence = finding.cause, finding.evidence
    lead = f"{number}. "
    lines = wrap_words(cause.title, width, indent=" " * len(lead), first=lead)
    for label, text in _finding_facts(finding, loaded):
        if label == "change" and evidence.remedy.is_command:
            lines += ["   change", f"     {printable(text)}"]
            continue
        first = f"   {label.ljust(_LABEL)}"
        lines += wrap_words(text, width, indent=" " * len(first), first=first)
    return lines


def _finding_facts(finding: CheckupFinding, loaded: LoadedConfig) -> Iterator[tuple[str, str]]:
    evidence, gain = finding.evidence, finding.gain
    remedy = evidence.remedy
    yield "seen", evidence.text
    yield "change", f"{remedy.change}{_where(finding, loaded)}"
    if remedy.hint:
        yield "", remedy.hint
    if evidence.saves:
        yield "saves", evidence.saves
    if gain is not None:
        yield "measured", _gain(gain)


def _where(finding: CheckupFinding, loaded: LoadedConfig) -> str:
    """Name the file or variable that holds each setting to change; defaults are in none."""
    keys = finding.evidence.remedy.settings
    layers = [loaded.provenance.get(f"llm.{key}") for key in keys]
    places = dict.fromkeys(layer for layer in layers if layer is not None)
    if not keys:
        return ""
    shown = [place.replace("--llmperf-set", "--set") for place in places]
    return f" (under llm; now {' and '.join(shown)})" if shown else " (under llm in config.yaml)"


def _gain(gain: RemedyGain) -> str:
    words = gain_words(gain)
    pairs = f"in {count(gain.pairs, 'pair')} of processes{_both_sides_text(gain)}"
    if gain.outcome == "failed":
        return f"did not work: {gain.why}"
    if gain.outcome == "undecided":
        return f"not decided, {gain.why}" + (f": {words} {pairs}" if words else "")
    return f"{words} {pairs}"


def _both_sides_text(gain: RemedyGain) -> str:
    """Name the settings of both sides, and the start-up times if they differ much."""
    text = ""
    if gain.beside:
        text = f", {Remedy.of_settings(gain.beside).change} on both sides"
    if gain.start_seconds is not None:
        with_it, without = gain.start_seconds
        if abs(with_it - without) > _START_PART * without:
            text += f"; starts in {format_duration(with_it)} instead of {format_duration(without)}"
    return text


def _remarks(checkup: Checkup, width: int) -> list[str]:
    """Return everything except the findings."""
    lines: list[str] = []
    if checkup.together is not None:
        lines += wrap_words(f"all helpful changes together: {_gain(checkup.together)}", width)
    for finding in checkup.without_gain:
        change = finding.evidence.remedy.change
        gain = finding.gain
        assert gain is not None
        outcome = "no measurable effect" if gain.outcome == "no gain" else gain.outcome
        lines += wrap_words(f"tried {change}: {outcome}; {_gain(gain)}", width)
    for finding in checkup.not_tried:
        change = finding.evidence.remedy.change
        gain = finding.gain
        effect = _gain(gain) if gain is not None else "not tried"
        lead = "tried" if gain is not None and looks_slower(gain.changes) else "may help"
        lines += wrap_words(f"{lead}, {effect}: {change} ({finding.evidence.text})", width)
    for note in checkup.notes:
        lines += wrap_words(note, width, first="note: ")
    return ["", *lines] if lines else []


def as_json(
    checkup: Checkup, loaded: LoadedConfig, limit: RooflineShare | None = None
) -> dict[str, Any]:
    """Return a checkup as plain JSON, as ``--json`` writes it.

        {schema, error, interrupted, machine {usable_cpus, memory_bytes, gpus [text]}, model,
         engine, layers_on_gpu, total_layers, workload {prompt_tokens, output_tokens},
         metrics {name: value}, roofline (as of a test in a --llmperf-json report), fitness
         [{name, severity, text, evidence}], server {slots, now (its counters before), no_counters
         (why), load (as of a test, with metrics {name: value})}, findings [finding], without_gain
         [finding], not_tried [finding], together gain, notes [text]}

    A finding is {name, title, theme, evidence, certain, change, settings {key: value}, hint,
    saves, gain}; a gain is {outcome, pairs, why, beside {key: value} (settings of both sides),
    start_seconds [with the change, without], changes {metric: {speedup, low, high}}}, where
    speedup is a factor with its 95% interval; outcome is gain, no gain, slower, undecided
    or failed. Values are in base units; anything unknown or not tried is null.
    """
    situation = checkup.situation
    info = situation.info if situation is not None else None
    layers = situation.layers if situation is not None else None
    llm = loaded.config.llm
    named = getattr(llm, "model_path", llm.kind.title(llm.resolved()))
    return {
        "schema": SCHEMA_VERSION,
        "error": checkup.error or None,
        "interrupted": checkup.interrupted,
        "machine": _machine_json(checkup),
        "model": info.model_name if info is not None else named,
        "engine": f"{info.engine} {info.engine_version}" if info is not None else None,
        "layers_on_gpu": layers.layers_on_gpu if layers is not None else None,
        "total_layers": layers.total_layers if layers is not None else None,
        "workload": {
            "prompt_tokens": checkup.probe.size.prompt_tokens or None,
            "output_tokens": checkup.probe.size.output_tokens,
        }
        if checkup.probe is not None
        else None,
        "metrics": dict(situation.metrics) if situation is not None else {},
        "roofline": roofline_json(limit),
        "fitness": [asdict(finding) for finding in (situation.findings if situation else ())],
        "server": server_json(checkup.server, info),
        "findings": [_finding_json(finding) for finding in checkup.findings],
        "without_gain": [_finding_json(finding) for finding in checkup.without_gain],
        "not_tried": [_finding_json(finding) for finding in checkup.not_tried],
        "together": _gain_json(checkup.together),
        "notes": list(checkup.notes),
    }


def _machine_json(checkup: Checkup) -> dict[str, Any] | None:
    if checkup.situation is None:
        return None
    hardware = checkup.situation.hardware
    return {
        "usable_cpus": hardware.usable_cpus,
        "memory_bytes": hardware.memory.total,
        "gpus": [card.name for card in hardware.cards],
    }


def _finding_json(finding: CheckupFinding) -> dict[str, Any]:
    cause, evidence = finding.cause, finding.evidence
    return {
        "name": cause.name,
        "title": cause.title,
        "theme": cause.theme,
        "evidence": evidence.text,
        "certain": evidence.certain,
        "change": evidence.remedy.change,
        "settings": dict(evidence.remedy.settings),
        "hint": evidence.remedy.hint or None,
        "saves": evidence.saves or None,
        "gain": _gain_json(finding.gain),
    }


def _gain_json(gain: RemedyGain | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {
        "outcome": gain.outcome,
        "pairs": gain.pairs,
        "why": gain.why or None,
        "beside": dict(gain.beside),
        "start_seconds": list(gain.start_seconds) if gain.start_seconds is not None else None,
        "changes": {
            name: dict(zip(("speedup", "low", "high"), map(_finite, change.speedup), strict=True))
            for name, change in gain.changes.items()
        },
    }


def _finite(value: float) -> float | None:
    """Return the end of an interval; None while it is unknown."""
    return value if math.isfinite(value) and value > 0 else None
