"""The gain of a remedy from interleaved processes, and what a reader sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doctor_runs import SMALL
from tiny_models import tiny_llama

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.doctor.bench import Bench
from pytest_llmperf.doctor.gain import (
    RemedyChange,
    RemedyGain,
    changes_of,
    is_decided,
    judge,
    why_undecided,
)
from pytest_llmperf.doctor.probe import Probe, Sizes, probe
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.request import Request
from pytest_llmperf.machine.fitness import HostNeeds
from pytest_llmperf.measure.samples import BASE, CANDIDATE, ProcessSample, TestSamples
from pytest_llmperf.report.doctor import gain_words
from pytest_llmperf.session.machine_watch import WatchSettings

#: Noise of a percent, the same for every test.
NOISE = (1.0, 1.008, 0.994, 1.003, 0.997, 1.006, 0.992, 1.001, 1.004, 0.996)


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """Configuration of a model that answers at once: only its samples matter here."""
    threads = {"n_threads": 1, "n_threads_batch": 1}
    return LlamaCppConfig(**{**SMALL, **threads}).resolved(tiny_llama())


WATCH = WatchSettings(HostNeeds(), diagnosing=True)


def probed(config: dict[str, Any]) -> tuple[LaunchSpec, Probe]:
    """Return an engine's launch spec, and a short workload that it ran once."""
    spec = LaunchSpec("llama_cpp", config)
    client = EngineClient.start(spec)
    try:
        return spec, probe(client, Sizes(8, 2), 100.0)
    finally:
        client.close()


def samples(
    decode: float, first: float, end: float, pairs: int = 6, noise: Sequence[float] = NOISE
) -> TestSamples:
    """Return pairs in which the remedy multiplies a speed and two times by these factors."""
    result = TestSamples()
    for pair in range(pairs):
        for side, factors in ((CANDIDATE, (decode, first, end)), (BASE, (1.0, 1.0, 1.0))):
            n = noise[(pair + 5 * (side == BASE)) % len(noise)]
            row = {
                "tokens_per_sec": 80.0 * factors[0] * n,
                "first_token": 0.4 * factors[1] * n,
                "end_to_end": 2.0 * factors[2] * n,
            }
            result.processes.append(ProcessSample(pair, (row,) * 3, side=side, pair=pair))
    return result


@pytest.mark.parametrize(
    ("effects", "why"),
    [
        ((0.48, 0.02, 0.1), "it looks slower, and the pairs differ too much to prove that"),
        ((-0.2, 0.01, 0.0), "the pairs differ too much to prove the gain"),
        # A gain at the expense of the rest is no gain.
        ((-0.2, 0.01, 0.2), "it looks slower, and the pairs differ too much to prove that"),
        ((-0.03, 0.01, 0.0), "the gain is too small to measure"),
    ],
)
def test_why_nothing_is_decided_fits_what_was_seen(
    effects: tuple[float, float, float], why: str
) -> None:
    names = ("tokens_per_sec", "first_token", "end_to_end")
    seen = {
        name: RemedyChange(effect, effect - 1.0, effect + 1.0)
        for name, effect in zip(names, effects, strict=True)
    }
    assert judge(seen) == "undecided"
    assert why_undecided(seen) == why


@pytest.mark.parametrize(
    ("factors", "outcome"),
    [
        ((1.5, 0.7, 0.7), "gain"),
        ((1.0, 0.7, 0.95), "gain"),
        ((1.0, 1.0, 1.0), "no gain"),
        ((0.7, 1.3, 1.3), "slower"),
        # A faster first token that the whole answer pays for is no gain.
        ((0.8, 0.7, 1.2), "slower"),
    ],
)
def test_what_pairs_prove(factors: tuple[float, float, float], outcome: str) -> None:
    changes = changes_of(samples(*factors, pairs=8))
    assert judge(changes) == outcome
    assert is_decided(changes)


def test_two_pairs_prove_nothing() -> None:
    changes = changes_of(samples(1.5, 0.7, 0.7, pairs=2))
    assert judge(changes) == "undecided"
    assert not is_decided(changes)
    words = gain_words(RemedyGain("undecided", changes, 2))
    assert words == "decode 33.7% faster, first token 29.6% faster, end to end 29.6% faster"


def test_noise_of_a_third_proves_no_gain_of_a_tenth() -> None:
    loud = (1.0, 1.3, 0.8, 1.1, 0.7, 1.4, 0.9, 1.2, 0.75, 1.05)
    assert judge(changes_of(samples(1.1, 0.9, 0.9, pairs=5, noise=loud))) == "undecided"


def test_a_gain_is_reported_with_its_interval() -> None:
    changes = changes_of(samples(1.42, 0.69, 0.75, pairs=10))
    words = gain_words(RemedyGain("gain", changes, 10))
    assert words == (
        "decode 29.6% faster [28.8% to 30.3%], first token 31.0% faster [30.3% to 31.7%], "
        "end to end 25.0% faster [24.2% to 25.8%]"
    )


def test_a_workload_has_the_sizes_asked_for(config: dict[str, Any]) -> None:
    client = EngineClient.start(LaunchSpec("llama_cpp", config))
    try:
        found = probe(client, Sizes(40, 3), 100.0)
        (request,) = found.workload.requests
        assert (len(request.prompt_token_ids), request.output_tokens) == (40, 3)
        assert (found.size.context, found.size.is_users, found.shortened) == (43, True, False)
        small = probe(client, Sizes(), 1e-6)
        assert small.shortened
        assert (small.size.prompt_tokens, small.size.output_tokens) == (32, 8)
        assert not small.size.is_users
        with pytest.raises(EngineError, match=r"raise llm\.n_ctx to at least 603"):
            probe(client, Sizes(600, 3), 100.0)
    finally:
        client.close()


def test_a_device_that_is_cold_at_first_gets_an_ordinary_workload(config: dict[str, Any]) -> None:
    """The first request of a process may load a device's code; what follows is fast."""
    client = EngineClient.start(LaunchSpec("llama_cpp", {**config, "n_ctx": 256}))
    asked = client.request

    def cold_at_first(request: Request) -> Generation:
        client.request = asked  # type: ignore[method-assign]
        generation = asked(request)
        line = generation.timeline
        assert line.t_prefill_start is not None
        early = replace(line, t_prefill_start=line.t_prefill_start - 1000.0)
        return replace(generation, timeline=early)

    client.request = cold_at_first  # type: ignore[method-assign]
    try:
        found = probe(client, Sizes(), 300.0)
    finally:
        client.close()
    assert not found.shortened
    assert (found.size.prompt_tokens, found.size.output_tokens) == (192, 64)


def test_a_remedy_that_does_not_fit_is_said_to_be_so(model_file: Path, quiet_machine: None) -> None:
    # Of a tiny model no context is too large for this machine's address space.
    spec, found = probed(LlamaCppConfig(**SMALL).resolved(model_file))
    bench = Bench(spec, found, 1.0, 60.0, WATCH)
    gain = bench.attempt({"n_ctx": 50_000_000}, 60.0)
    assert gain.outcome == "failed"
    assert gain.why == "it does not fit in system memory (a buffer of 1.0 TiB)"


def test_a_remedy_is_tried_beside_those_that_helped(
    config: dict[str, Any], quiet_machine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_llmperf.doctor.bench._MIN_PAIRS", 1)
    monkeypatch.setattr("pytest_llmperf.doctor.bench._MAX_PAIRS", 1)
    started: list[tuple[int, bool]] = []
    start = EngineClient.start

    def noted(spec: LaunchSpec) -> EngineClient:
        started.append((spec.config["n_batch"], spec.config["use_mmap"]))
        return start(spec)

    spec, found = probed(config)
    bench = Bench(spec, found, 1.0, 60.0, WATCH)
    before = bench.pair_seconds()
    faster = RemedyChange(-2.0, -2.1, -1.9)
    bench.adopt({"n_batch": 128}, RemedyGain("gain", {"end_to_end": faster}, 3))
    assert bench.pair_seconds() < before == bench.pair_seconds(adopted=False)
    monkeypatch.setattr(EngineClient, "start", noted)
    gain = bench.attempt({"use_mmap": False}, 60.0)
    assert gain.beside == {"n_batch": 128}
    assert {*started} == {(128, False), (128, True)}
    assert gain.start_seconds is not None
    assert min(gain.start_seconds) > 0
    started.clear()
    assert bench.attempt_adopted(60.0).beside == {}
    assert {*started} == {(128, True), (SMALL["n_batch"], True)}


def test_findings_of_its_measurements_are_as_severe_as_configured(
    config: dict[str, Any], quiet_machine: None
) -> None:
    spec, found = probed(config)
    # As if the recording had evaluated more of the prompt than any replay does.
    (request,) = found.workload.requests
    more = replace(request, prompt_tokens_evaluated=9)
    found = replace(found, workload=replace(found.workload, requests=(more,)))

    for severities in ({}, {"prompt_cached": "note"}):
        measured = Bench(spec, found, 1.0, 60.0, replace(WATCH, severities=severities)).measure(
            60.0
        )
        severity = severities.get("prompt_cached", "invalid")
        assert {f.severity for f in measured.findings if f.name == "prompt_cached"} == {severity}


def test_a_remedy_on_a_busy_machine_is_not_judged(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_llmperf.machine.fitness import FitnessFinding

    busy = FitnessFinding("busy_cores", "invalid", "process 4242 (stress) used 1.9 of 2 cores")
    monkeypatch.setattr("pytest_llmperf.session.machine_watch.machine_findings", lambda *_: [busy])
    spec, found = probed(config)
    gain = Bench(spec, found, 1.0, 60.0, WATCH).attempt({"flash_attn": True}, 60.0)
    assert (gain.outcome, gain.pairs) == ("undecided", 0)
    assert gain.why == f"the machine was disturbed: {busy}"
