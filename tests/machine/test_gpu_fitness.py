"""Findings on a card that make a measurement unfit, through the real binding."""

from __future__ import annotations

import os
from typing import Any

import pytest
from stand_in_card import Card, scenario

from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.machine.gpu.counters import CounterReading
from pytest_llmperf.machine.gpu.devices import Gpu
from pytest_llmperf.machine.gpu.fitness import judge_gpus
from pytest_llmperf.machine.gpu.processes import GpuProcess
from pytest_llmperf.machine.gpu.telemetry import Track
from pytest_llmperf.machine.gpu.windows import Span

NAME = "NVIDIA GeForce RTX 4090 (GPU 0)"
GIB = 1 << 30


def only_finding(found: dict[str, Any], *, besides: str = "") -> dict[str, Any]:
    """Return the only finding other than the one named ``besides``."""
    (single,) = [finding for finding in found["findings"] if finding["name"] != besides]
    assert single["name"] in CHECKS
    return dict(single)


@pytest.mark.parametrize("name", ["healthy", "eight_devices", "mig", "unsupported"])
def test_a_healthy_card_has_no_findings(card: Card, name: str) -> None:
    assert card.observe(scenario(name))["findings"] == []


def test_a_card_too_hot_is_invalid_with_its_temperature(card: Card) -> None:
    finding = only_finding(card.observe(scenario("thermal_throttle")), besides="gpu_hot")
    assert (finding["name"], finding["severity"]) == ("gpu_throttled", "invalid")
    assert finding["text"].startswith(f"the {NAME} lowered its clocks in ")
    assert finding["text"].endswith("too hot (software thermal slowdown), at 89 °C")
    assert finding["evidence"]["samples"] == finding["evidence"]["of"] > 1


@pytest.mark.parametrize(
    ("bits", "words"),
    [("8", "heat or power supply"), ("40", "hardware thermal"), ("80", "power brake")],
)
def test_every_slowdown_is_named(card: Card, bits: str, words: str) -> None:
    finding = only_finding(card.observe(scenario("healthy") + f"throttle 0 {bits}\n"))
    assert (finding["name"], finding["severity"]) == ("gpu_throttled", "invalid")
    assert words in finding["text"]


@pytest.mark.parametrize("bits", ["1", "2", "10", "100"])
def test_what_is_no_slowdown_is_not_reported(card: Card, bits: str) -> None:
    """Idle, application clocks, sync boost, display."""
    assert card.observe(scenario("healthy") + f"throttle 0 {bits}\n")["findings"] == []


def test_a_card_at_its_power_limit_is_only_noted(card: Card) -> None:
    finding = only_finding(card.observe(scenario("power_cap")))
    assert (finding["name"], finding["severity"]) == ("gpu_power_cap", "note")
    assert "at its power limit of 450 W in" in finding["text"]


def test_a_card_that_gets_hot_meanwhile_is_warned_of(card: Card) -> None:
    finding = only_finding(card.observe(scenario("healthy"), during="more('temperature 0 87 90')"))
    assert (finding["name"], finding["severity"]) == ("gpu_hot", "warn")
    assert finding["text"].endswith("reached 87 °C while decoding; it slows down at 90 °C")


def test_low_clocks_without_a_reason_are_warned_of(card: Card) -> None:
    finding = only_finding(card.observe(scenario("healthy") + "clocks 0 1200 3105 10251 10501\n"))
    assert (finding["name"], finding["severity"]) == ("gpu_clocks_low", "warn")
    assert "at a SM clock of 1200 MHz, 39% of its highest (3105 MHz)" in finding["text"]


def test_low_clocks_with_a_reason_are_told_of_once(card: Card) -> None:
    text = scenario("power_cap") + "clocks 0 1200 3105 10251 10501\n"
    assert only_finding(card.observe(text))["name"] == "gpu_power_cap"


def test_an_idle_cards_clocks_say_nothing(card: Card) -> None:
    text = scenario("healthy") + "busy 0 3 1\nclocks 0 210 3105 405 10501\nlink 0 1 16\n"
    assert card.observe(text)["findings"] == []


def test_clocks_that_fall_within_a_process_are_warned_of(card: Card) -> None:
    during = "more('clocks 0 2200 3105 10251 10501')"
    finding = only_finding(card.observe(scenario("healthy"), during=during, seconds=1.0))
    assert (finding["name"], finding["severity"]) == ("gpu_clock_drift", "warn")
    assert "went from 2640 to 2200 MHz" in finding["text"]


def test_little_free_memory_is_warned_of(card: Card) -> None:
    finding = only_finding(card.observe(scenario("healthy"), tenant=str((24564 - 310 - 200) << 20)))
    assert (finding["name"], finding["severity"]) == ("gpu_memory_pressure", "warn")
    assert "had 200 MiB of 24.0 GiB free while decoding" in finding["text"]


def test_others_that_take_more_memory_are_warned_of(card: Card) -> None:
    finding = only_finding(
        card.observe(scenario("healthy"), during="more('used 0 1310')", seconds=1.0)
    )
    assert (finding["name"], finding["severity"]) == ("gpu_others_grew", "warn")
    assert "grew from 310 MiB to 1.3 GiB while measuring" in finding["text"]


def test_an_engine_that_takes_more_memory_is_not_others(card: Card) -> None:
    during = "more('', instead_of=('5368709120', '6442450944'))"
    assert card.observe(scenario("healthy"), during=during, seconds=1.0)["findings"] == []


def test_a_narrow_link_is_warned_of_even_at_idle(card: Card) -> None:
    finding = only_finding(card.observe(scenario("narrow_link") + "busy 0 3 1\n"))
    assert (finding["name"], finding["severity"]) == ("gpu_pcie", "warn")
    assert f"the {NAME} runs at PCIe x4, but card and slot support gen4 x16" in finding["text"]


def test_a_slow_link_is_warned_of_only_under_load(card: Card) -> None:
    text = scenario("healthy") + "link 0 1 16\n"
    assert card.observe(text + "busy 0 3 1\n")["findings"] == []
    finding = only_finding(card.observe(text, seconds=1.0))
    assert "runs at PCIe gen1 x16, but card and slot support gen4 x16" in finding["text"]


def test_new_uncorrected_errors_are_invalid_and_old_ones_a_warning(card: Card) -> None:
    old = only_finding(card.observe(scenario("healthy") + "ecc 0 3 2\n", seconds=0.2))
    assert (old["name"], old["severity"]) == ("gpu_ecc", "warn")
    new = only_finding(card.observe(scenario("healthy"), during="more('ecc 0 3 2')", seconds=1.0))
    assert (new["name"], new["severity"]) == ("gpu_ecc", "invalid")
    assert "had 2 uncorrected ECC errors since its driver was loaded, 2 of them" in new["text"]


def test_an_error_the_driver_reports_is_invalid(card: Card) -> None:
    finding = only_finding(
        card.observe(scenario("healthy"), during="more('xid 0 79')", seconds=1.0)
    )
    assert (finding["name"], finding["severity"]) == ("gpu_xid", "invalid")
    assert finding["text"].endswith("while measuring: Xid 79")


def test_an_error_of_before_is_no_matter(card: Card) -> None:
    assert card.observe(scenario("healthy") + "xid 0 79\n", seconds=0.6)["findings"] == []


def test_a_card_that_is_lost_meanwhile_is_invalid(card: Card) -> None:
    finding = only_finding(card.observe(scenario("healthy"), during="more('lost 0')"))
    assert (finding["name"], finding["severity"]) == ("gpu_lost", "invalid")


def test_persistence_mode_that_is_off_is_a_note(card: Card) -> None:
    finding = only_finding(card.observe(scenario("healthy") + "persistence 0 0\n"))
    assert (finding["name"], finding["severity"]) == ("gpu_persistence", "note")


def test_a_foreign_process_on_the_card_is_invalid(card: Card) -> None:
    # This pytest, the parent, is visible and not a process of the session.
    text = scenario("healthy") + f"compute 0 {os.getpid()} 5368709120 /usr/bin/train\n"
    finding = only_finding(card.observe(text))
    assert (finding["name"], finding["severity"]) == ("busy_gpu", "invalid")
    assert finding["text"] == (
        f"process {os.getpid()} (train) with 5.0 GiB was on the {NAME} while measuring"
    )
    assert finding["evidence"]["pid"] == os.getpid()


def test_a_desktop_on_the_card_is_a_note(card: Card) -> None:
    pid = os.getpid()
    text = scenario("healthy") + f"compute 0 {pid} - shell\ngraphics 0 {pid} - shell\n"
    finding = only_finding(card.observe(text))
    assert (finding["name"], finding["severity"]) == ("busy_gpu", "note")


def test_a_process_of_another_card_is_no_matter(card: Card) -> None:
    text = scenario("eight_devices") + f"compute 3 {os.getpid()} 5368709120 train\n"
    assert card.observe(text, CUDA_VISIBLE_DEVICES="0,1")["findings"] == []


@pytest.mark.parametrize("tenant", ["1073741824", ""], ids=["on another card", "on none"])
def test_a_process_of_a_card_that_the_engine_is_not_on_is_no_matter(
    card: Card, tenant: str
) -> None:
    text = scenario("eight_devices") + f"compute 3 {os.getpid()} 5368709120 train\n"
    assert card.observe(text, tenant=tenant)["findings"] == []


def test_one_hidden_process_may_be_the_engine_itself(card: Card) -> None:
    hidden = "compute 0 4194300 5368709120 llama\n"
    assert card.observe(scenario("healthy") + hidden, tenant="")["findings"] == []


@pytest.mark.parametrize(("tenant", "pids"), [("", (4194300, 4194299)), ("1024", (4194300,))])
def test_hidden_processes_beyond_the_engine_are_invalid(
    card: Card, tenant: str, pids: tuple[int, ...]
) -> None:
    hidden = "".join(f"compute 0 {pid} 1024 train\n" for pid in pids)
    finding = only_finding(card.observe(scenario("healthy") + hidden, tenant=tenant))
    assert (finding["name"], finding["severity"]) == ("busy_gpu", "invalid")
    assert "not visible from here" in finding["text"]


def test_hidden_processes_one_after_the_other_may_all_be_engines() -> None:
    lists = [frozenset({1}), frozenset({2}), frozenset({3})]
    readings = [CounterReading(float(t), computing=pids) for t, pids in enumerate(lists)]
    hidden = {pid: GpuProcess(pid, None, visible=False) for pid in (1, 2, 3)}
    assert judge_gpus([Track(Gpu("card"), None, readings)], hidden, []) == []


def test_a_blip_is_warned_of_and_not_invalid() -> None:
    readings = [
        CounterReading(t / 20, gpu_busy=1.0, reasons=0x20 if t == 50 else 0, processes={7: GIB})
        for t in range(100)
    ]
    me = {7: GpuProcess(7, "python", visible=True, engine=True, session=True)}
    track = Track(Gpu("card"), None, readings)
    (finding,) = judge_gpus([track], me, [Span(0.0, 0.0, 5.0, 400)])
    assert finding == FitnessFinding(
        "gpu_throttled",
        "warn",
        "the card (GPU 0) lowered its clocks in 1 of 100 samples while decoding: too hot "
        "(software thermal slowdown)",
        {"gpu": 0, "reason": "too hot (software thermal slowdown)", "samples": 1, "of": 100},
    )


def test_what_a_card_does_that_no_engine_is_on_is_no_matter(card: Card) -> None:
    text = scenario("eight_devices") + "throttle 5 40\nclocks 6 300 1980 2619 2619\n"
    assert card.observe(text)["findings"] == []
