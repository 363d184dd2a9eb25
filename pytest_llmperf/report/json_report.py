"""The session as JSON, for ``--llmperf-json``: everything in the table, and the raw samples.

Shape (``schema`` 1; keys in this order; values in base units: seconds, tokens
per second; anything unknown is null)::

    schema      1
    session     machine, model, engine, processes (the fewest processes or pairs per test),
                unit (of replication: "process", or "block" of a server that was already
                running), iterations (planned), seed, wall_s, generation_s,
                recording_generation_s, busy [text], notes [text], baselines [file],
                recorded_to, against (name of the base side), base_commit (its
                hash, or null if the base is another configuration),
                side_differences [text], false_alarms, waited_s (for a busy machine;
                included in wall_s), fitness [fitness, with tests [node id]], gpus
                [gpu], measured_at (UTC), command (that ran the session; null if unknown),
                provenance {commit, dirty, branch, plugin, python, engine,
                engine_version, backend} (null if unknown), model_file {name, sha256,
                size_bytes, quantization} (null if unknown), config (the resolved ``llm``
                section), machine_facts {item: value}, history (null if it was not
                read), fails [verdict] (the verdicts that fail a test in this session)
    counts      {verdict: checks}, only verdicts that occurred; metrics of one
                test that measure one quantity count as one check
    tests       [{nodeid, location {file (from pytest's root folder), line} (null if it
                is not a pytest test), verdict, workload {summary, hash, requests [digest, see
                request_digest.py]}, settings {name: value} (of its cell in a sweep;
                empty without a sweep), processes, pairs, earlier_pairs (how many of the pairs
                earlier sessions measured), against (the base side's name; null if compared
                with stored sessions), confirmed (measured against the commit of a stored
                session, because stored sessions made it suspect), findings [text],
                differences [text], causes [text] (of a slowdown or a missed
                target: changes in the commit or configuration), diagnosis [{name,
                title, evidence, change, certain}] (possible causes of a slow
                test), fitness [fitness, with processes [number from 0; empty for all]],
                roofline (null if not requested), metrics [metric], telemetry {hz, gpus
                [telemetry]} (null if no GPU was watched), quality {checks [{name, label,
                unit, direction, limit, value, low, high, verdict, explanation}], figures
                (see quality/figures.py; null if they could not be measured)} (null if
                not requested), timelines [timeline], command (that measures it again, or
                null), doctor_command (that tries the diagnosis, or null), load
                (its loads; null if requests were sent one at a time), server [text] (from
                the servers' own counters; empty for a load, which has its own)}]
    unmeasured  [{nodeid, outcome ("failed" or "skipped"), reason, location}], perf tests
                that ran but could not be measured, and so have no verdict
    load_curves [{name (node id without parameters), unit (of the loads: "requests/s" or "in
                flight"), knee (the heaviest load whose request latency is at most twice that
                of the lightest; null if no load exceeds it), points [{nodeid, load,
                verdict (null if nothing was judged), metrics {name: {value, low, high}}}]
                (from the lightest load to the heaviest)}] of tests that differ only in
                their load

    roofline    share (of the limit), problem (why the limit is unknown), limit_tokens_per_sec,
                bytes_per_token, depth (average number of positions a decode step reads),
                model_bytes, devices {name: {weight_bytes, cache_bytes (both per
                token), bandwidth (bytes per second), how (its source), spread}}

    fitness     a check's worst finding: name (see docs/fitness.md), severity
                ("note", "warn" or "invalid"), text, evidence {name: value}

    metric      name, label, unit, direction ("higher" or "lower" is better),
                gated, limit, tolerance, calibrated {tolerance, holds, seconds,
                calibration (file), recorded} (the calibration figure used by
                tolerance auto; null if there was none), value, low, high, level, processes,
                iterations, samples [[number]] (processes x iterations),
                base_samples [[number]] (row i of both is pair i; empty without a
                base side), baseline {value, low, high, sessions, sources [file],
                levels [number] (of each source)},
                change (slowdown, positive is worse), verdict, explanation,
                claim (the explanation without its facts), strategy, proof, notes
                [text], reasons [{verdict, strategy, text}],
                progress (null if the check is not sequential), history {sessions
                [index in the session's history], values [number], changes [{index (in
                values), slowdown, low, high}]} (null without a history)

    proof       the numbers behind the verdict, slowdowns as fractions: effect, low,
                high, bound (upper bound of the slowdown), level (of interval and bound),
                log_evidence and log_threshold (natural logarithms of odds; of 1/p for
                stored sessions), samples (pairs, processes or stored
                sessions), row_size (pairs or processes per sample; more than one
                for a percentile), more (further samples to decide), more_seconds,
                passes_up_to and calls_from (effects that stored sessions can decide)

    progress    the course of the comparison: against ("base" or "target"), differences
                [slowdown of each pair, or of each process against the limit], looks
                [[pairs or processes so far, slowdown, low, high]], at most 60

    timeline    one iteration, token by token: side, picked ("typical" or "slowest"),
                process, iteration, seconds, first_tokens [seconds, of each request], gaps
                [seconds between output tokens], gaps_per_value (more than 1 for an answer
                of over 600 tokens: each value is the longest of this many gaps), requests
                [index of each request's first gap], stalls [index in gaps]

    history     earlier recorded sessions, at most 60 of a metric: sessions [{recorded,
                commit, dirty, file}], problem (why there are none, or null)

    load        pattern (in words), arrivals ("closed", "constant", "poisson" or "trace"),
                concurrency, rate (null if there is none), loads, requests (in all loads),
                faults {kind: requests}, first_token_since_sent, request_latency_since_sent, slip
                (95th percentile of the delay in sending), client_busy (share of a core),
                client_processes, client_ceiling (requests per second at which the client would
                use the whole core), chunk_gap (times in seconds, null if unknown), server [text]
                (from its own counters), counters [{address: counters}] (of each load; null
                if a server published none)

    counters    of a server during a load (engine/server/server_side.py): server, readings,
                failed, running, waiting and kv_use {peak, mean}, waiting_share, preemptions,
                prompt_tokens, generated_tokens, cache_hits, cache_queries,
                generated_before, generated_after, went_back; null means unknown, never 0

    gpu         a GPU that was watched through NVML: index (nvidia-smi's), name, uuid,
                mig (the slice's profile), mig_mode, memory_bytes, memory_bus_bits,
                sm_clock_max_mhz, memory_clock_max_mhz, pcie_generation_max,
                pcie_width_max, power_limit_w, power_limit_default_w,
                power_limit_enforced_w, slowdown_c, persistence, driver, cuda

    telemetry   one GPU while the test's output tokens arrived, in all processes of
                this side: gpu (its index), uuid, used (the engine ran on it), samples,
                counters {name: {mean, min, max}} (those the driver reports: gpu_busy,
                memory_busy as shares; memory_used, memory_free, engine_memory,
                other_memory in bytes; power_w, temperature_c, sm_mhz, memory_mhz,
                pcie_generation, pcie_width, ecc_corrected, ecc_uncorrected),
                lowered_clocks {reason: samples}, xids [code], lost, course {seconds (since
                the first sample of its process), processes [index of their first sample],
                counters {name: [number or null]}} (at most 240 samples); hz is how often
                the GPUs were sampled

New keys may be added under the same ``schema``; a changed meaning raises it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.gate.combine import count_kinds
from pytest_llmperf.gate.verdict import FailPolicy, VerdictKind, fails
from pytest_llmperf.report.bounded import bounded
from pytest_llmperf.report.load_curve import curves_of_session
from pytest_llmperf.session.roofline import roofline_json
from pytest_llmperf.text import json_text

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmperf.gate.verdict import Proof
    from pytest_llmperf.quality.figures import QualityResult
    from pytest_llmperf.session.report_history import PastLevels, ReportHistory
    from pytest_llmperf.session.result import CheckResult, SessionResult, TestResult

SCHEMA_VERSION = 1


class ReportError(Exception):
    """A report could not be written; the message names the path, the reason and the remedy."""


def session_json(session: SessionResult) -> dict[str, Any]:
    """Return the session as plain JSON types, in the shape that the module docstring gives."""
    counts = count_kinds(test.verdicts for test in session.tests)
    return {
        "schema": SCHEMA_VERSION,
        "session": {
            "machine": session.machine_key,
            "model": session.model,
            "engine": session.engine,
            "processes": session.processes,
            "unit": session.unit,
            "iterations": session.iterations,
            "seed": session.seed,
            "wall_s": session.wall_seconds,
            "generation_s": session.generation_seconds,
            "recording_generation_s": session.recording_generation_seconds,
            "busy": list(session.busy),
            "notes": list(session.notes),
            "baselines": list(session.baseline_sources),
            "recorded_to": session.recorded_to,
            "against": session.against,
            "base_commit": session.base_commit,
            "side_differences": list(session.side_differences),
            "false_alarms": session.false_alarms,
            "waited_s": session.waited_seconds,
            "fitness": [entry.to_json("tests") for entry in session.fitness],
            "gpus": [asdict(gpu) for gpu in session.gpus],
            "measured_at": session.measured_at or None,
            "command": session.command or None,
            "provenance": _provenance(session),
            "model_file": asdict(session.model_file) if session.model_file else None,
            "config": dict(session.config),
            "machine_facts": dict(session.machine_facts),
            "history": _history(session),
            "fails": _failing_kinds(session),
        },
        "counts": {kind.value: number for kind, number in counts.items()},
        "tests": [_test(test, session.history) for test in session.tests],
        "unmeasured": [asdict(test) for test in session.unmeasured],
        "load_curves": [curve.to_json() for curve in curves_of_session(session)],
    }


def write_json(path: Path, session: SessionResult) -> None:
    """Write ``session_json`` to ``path`` atomically, creating its folder.

    Raises:
        ReportError: the file can't be written there.
    """
    write_report(path, json_text(session_json(session)), "JSON", "--llmperf-json")


def write_report(path: Path, text: str, form: str, option: str) -> None:
    """Write a report atomically, creating its folder.

    The error names the ``form`` of the report and the command-line ``option`` that asked for it.

    Raises:
        ReportError: the file can't be written there.
    """
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReportError(
            f"can't write the {form} report to {path}: {reason}; "
            f"give {option} a file name in a folder that can be written to"
        ) from error


def _failing_kinds(session: SessionResult) -> list[str]:
    policy = session.policy or FailPolicy(strict=session.strict)
    return [kind.value for kind in VerdictKind if fails(kind, policy)]


def _provenance(session: SessionResult) -> dict[str, Any] | None:
    if session.provenance is None:
        return None
    hidden = ("code", "environment")  # digests for comparing stored sessions
    return {k: v for k, v in asdict(session.provenance).items() if k not in hidden}


def _history(session: SessionResult) -> dict[str, Any] | None:
    if session.history is None:
        return None
    return {
        "sessions": [asdict(past) for past in session.history.sessions],
        "problem": session.history.problem or None,
    }


def _test(test: TestResult, history: ReportHistory | None) -> dict[str, Any]:
    levels = {} if history is None else history.levels.get(test.nodeid, {})
    return {
        "nodeid": test.nodeid,
        "location": asdict(test.location) if test.location else None,
        "verdict": test.worst.kind.value if test.worst else None,
        "workload": {
            "summary": test.workload,
            "hash": test.workload_hash,
            "requests": [request.row() for request in test.requests],
        },
        "settings": dict(test.settings),
        "processes": test.processes,
        "pairs": test.pairs,
        "earlier_pairs": test.earlier_pairs,
        "against": test.against,
        "confirmed": test.is_confirmed,
        "findings": list(test.findings),
        "differences": list(test.differences),
        "causes": list(test.causes),
        "diagnosis": [asdict(cause) for cause in test.diagnosis],
        "fitness": [entry.to_json("processes") for entry in test.fitness],
        "roofline": roofline_json(test.roofline),
        "metrics": [_metric(row, levels.get(row.check.metric.name)) for row in test.rows],
        "quality": _quality(test),
        "telemetry": _telemetry(test),
        "timelines": [asdict(timeline) for timeline in test.timelines],
        "command": test.command or None,
        "doctor_command": test.doctor_command or None,
        "load": asdict(test.load) if test.load is not None else None,
        "server": list(test.server),
    }


def _quality(test: TestResult) -> dict[str, Any] | None:
    if not test.quality_rows:
        return None
    figures = None if test.quality is None else quality_json(test.quality)
    checks = [
        {
            "name": row.check.metric.name,
            "label": row.check.metric.label,
            "unit": row.check.metric.unit.value,
            "direction": row.check.metric.direction.value,
            "limit": row.check.limit,
            "value": row.summary.value if row.summary else None,
            "low": bounded(row.summary.low) if row.summary else None,
            "high": bounded(row.summary.high) if row.summary else None,
            "verdict": row.verdict.kind.value if row.verdict else None,
            "explanation": row.verdict.explanation if row.verdict else None,
        }
        for row in test.quality_rows
    ]
    return {"checks": checks, "figures": figures}


def quality_json(result: QualityResult) -> dict[str, Any]:
    """Return all figures of a comparison with a reference."""
    return {name: value for name, value in asdict(result).items() if name != "from_cache"}


def _telemetry(test: TestResult) -> dict[str, Any] | None:
    telemetry = test.telemetry
    if telemetry is None:
        return None
    return {"hz": telemetry.hz, "gpus": [device.to_json() for device in telemetry.devices]}


def _metric(row: CheckResult, history: PastLevels | None) -> dict[str, Any]:
    check, summary, verdict = row.check, row.summary, row.verdict
    return {
        "name": check.metric.name,
        "label": check.metric.label,
        "unit": check.metric.unit.value,
        "direction": check.metric.direction.value,
        "gated": check.gated,
        "limit": check.limit,
        "tolerance": check.tolerance,
        "calibrated": asdict(check.calibrated) if check.calibrated else None,
        "value": summary.value if summary else None,
        "low": bounded(summary.low) if summary else None,
        "high": bounded(summary.high) if summary else None,
        "level": bounded(summary.level) if summary else None,
        "processes": summary.processes if summary else 0,
        "iterations": summary.iterations if summary else 0,
        # Samples that are not numbers are the cause of an error verdict.
        "samples": [list(process) for process in row.samples] if summary else [],
        "base_samples": [list(process) for process in row.base_samples] if summary else [],
        "baseline": _baseline(row),
        "change": row.change,
        "verdict": verdict.kind.value if verdict else None,
        "explanation": verdict.explanation if verdict else None,
        "claim": verdict.claim if verdict else None,
        "strategy": verdict.strategy if verdict else None,
        "proof": _proof(verdict.proof) if verdict and verdict.proof else None,
        "notes": list(verdict.notes) if verdict else [],
        "reasons": [
            {"verdict": reason.kind.value, "strategy": reason.strategy, "text": reason.text}
            for reason in (verdict.reasons if verdict else ())
        ],
        "progress": _progress(row),
        "history": asdict(history) if history else None,
    }


def _progress(row: CheckResult) -> dict[str, Any] | None:
    progress = row.progress
    if progress is None:
        return None
    return {
        "against": progress.against,
        "differences": [bounded(difference) for difference in progress.differences],
        "looks": [
            [look.samples, bounded(look.effect), bounded(look.low), bounded(look.high)]
            for look in progress.looks
        ],
    }


def _proof(proof: Proof) -> dict[str, Any]:
    """Return the proof's numbers; the end of an interval is null, not infinite, while unknown."""
    return {
        name: bounded(value) if isinstance(value, float) else value
        for name, value in asdict(proof).items()
    }


def _baseline(row: CheckResult) -> dict[str, Any] | None:
    if row.baseline is None:
        return None
    return {
        "value": row.baseline.value,
        "low": bounded(row.baseline.low),
        "high": bounded(row.baseline.high),
        "sessions": row.baseline_sessions,
        "sources": list(row.baseline_sources),
        "levels": list(row.baseline_levels),
    }
