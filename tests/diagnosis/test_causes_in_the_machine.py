"""Causes in memory and machine, from real checks and limits and the stand-in driver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from stand_in_card import Card, scenario

from pytest_llmperf.diagnosis.cause import CauseEvidence
from pytest_llmperf.diagnosis.registry import CAUSES, examine
from pytest_llmperf.diagnosis.situation import Situation
from pytest_llmperf.engine.load_report import DeviceLoad
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.machine.fitness import FitnessFinding, HostNeeds, judge
from pytest_llmperf.machine.free_memory import read_memory
from pytest_llmperf.machine.graphics import GraphicsCard, graphics_cards, hidden_by
from pytest_llmperf.machine.load import BusyReport, LoadWatch

Load = Callable[..., Situation]

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and /sys")


def evidence(situation: Situation, name: str) -> CauseEvidence | None:
    (cause,) = (cause for cause in CAUSES if cause.name == name)
    return cause.look(situation)


def evidence_shown(situation: Situation, name: str) -> CauseEvidence:
    found = evidence(situation, name)
    assert found is not None
    return found


def with_findings(situation: Situation, *findings: FitnessFinding) -> Situation:
    return replace(situation, findings=findings)


def limited(root: Path, limit: int, used: int = 0) -> Path:
    """Write a control group with a memory limit, as the kernel shows it, below ``root``."""
    group = root / "sys/fs/cgroup/job"
    group.mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/job\n")
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {used // 2}\n")
    return root


def test_memory_is_the_machines_where_no_group_limits_it(tmp_path: Path) -> None:
    memory = read_memory(tmp_path)
    assert not memory.limited
    assert 0 < memory.available <= memory.total


def test_a_groups_limit_counts_less_what_is_used_and_can_not_be_dropped(tmp_path: Path) -> None:
    memory = read_memory(limited(tmp_path, 64 << 20, 32 << 20))
    assert (memory.total, memory.available, memory.limited) == (64 << 20, 48 << 20, True)


def test_a_model_larger_than_the_groups_memory(load: Load, tmp_path: Path) -> None:
    situation = load()
    small = replace(situation.hardware, memory=read_memory(limited(tmp_path, 64 << 20)))
    found = evidence_shown(replace(situation, hardware=small), "memory_short")
    assert "the limit of this control group is 64.0 MiB" in found.text
    assert found.remedy.change.startswith("model_path: a smaller quantization, of at most 5")
    assert evidence(situation, "memory_short") is None


@linux
def test_memory_that_ends_while_loading(load: Load, tmp_path: Path) -> None:
    """A real limit: the engine's process may have 450 MB of address space."""
    python = tmp_path / "limited_python"
    python.write_text(f'#!/bin/sh\nulimit -v 450000\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    situation = load(python=str(python), n_ctx=8192, use_mmap=False)
    assert situation.info is None
    causes = {found.cause.name for found in examine(situation)}
    assert causes & {"memory_short", "context_large"}


def swapping() -> FitnessFinding:
    (finding,) = judge(
        BusyReport(10.0, 2, 0.0, swapped_bytes=300 << 20), HostNeeds(threads=2, cores=2)
    )
    return finding


def test_a_model_that_is_swapped_instead_of_mapped(load: Load) -> None:
    situation = with_findings(load(use_mmap=False), swapping())
    found = evidence_shown(situation, "not_mapped")
    assert "300 MiB back from swap" in found.text
    assert found.remedy.change == "use_mmap: true"
    assert found.certain
    assert evidence(situation, "swapping") is None


def test_a_model_that_is_copied_instead_of_mapped(load: Load) -> None:
    found = evidence_shown(load(use_mmap=False), "not_mapped")
    assert found.text.startswith("use_mmap: false copies 92.")
    assert found.saves.startswith("92.")
    assert found.remedy.settings == {"use_mmap": True}
    # It costs memory, and time at the start.
    assert not found.certain


def test_swapping_with_a_mapped_model(load: Load) -> None:
    situation = with_findings(load(), swapping())
    assert evidence_shown(situation, "swapping").remedy.change == "close programs that hold memory"
    assert evidence(situation, "not_mapped") is None
    assert evidence(load(), "swapping") is None


def test_a_process_on_the_cores_is_named_to_be_closed(load: Load) -> None:
    """Real contention: foreign processes keep every core of this process busy."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    idle = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    burning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(len(cores) * 2)
    ]
    try:
        watch = LoadWatch(idle.pid)
        burning[0].poll()
        with pytest.raises(subprocess.TimeoutExpired):
            burning[0].wait(1.2)
        findings = judge(watch.stop(), HostNeeds(threads=len(cores), cores=len(cores)))
    finally:
        for process in (idle, *burning):
            process.kill()
            process.wait()
    situation = with_findings(load(), *findings)
    found = evidence_shown(situation, "busy_cores")
    assert found.certain
    assert found.remedy.change.startswith("close process ")
    assert evidence(load(), "busy_cores") is None


@pytest.mark.parametrize(
    ("threads", "hint"),
    [
        (2, "or use fewer threads (n_threads): all of them wait for one that has no core"),
        (1, ""),
    ],
)
def test_fewer_threads_leave_a_busy_process_its_core(load: Load, threads: int, hint: str) -> None:
    taken = BusyReport(seconds=2.0, cpus=2, foreign_cores=1.9)
    findings = judge(taken, HostNeeds(threads=threads, cores=2))
    assert evidence_shown(with_findings(load(), *findings), "busy_cores").remedy.hint == hint


@linux
def test_the_machines_cards_are_those_nvml_names(card: Card) -> None:
    card.set(scenario("healthy"))
    found = card.run(
        "from pytest_llmperf.diagnosis.situation import look_at_hardware\n"
        "answer(look_at_hardware())\n"
    )
    assert found["cards"][0] == {
        "vendor": "nvidia",
        "name": "NVIDIA GeForce RTX 4090",
        "seen": "NVML",
    }
    assert found["gpu_memory"] == [24564 << 20]


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_card_without_its_library_is_seen_by_its_device_file(tmp_path: Path) -> None:
    root = tree(tmp_path, dev__nvidia0="", dev__nvidiactl="")
    (root / "proc/driver/nvidia/gpus/0").mkdir(parents=True)
    (root / "proc/driver/nvidia/gpus/0/information").write_text("Model: \t NVIDIA L4\nIRQ: 9\n")
    assert graphics_cards(root) == (GraphicsCard("nvidia", "NVIDIA L4", "/dev/nvidia0"),)


@pytest.mark.parametrize(
    ("vendor", "memory", "seen"),
    [
        ("0x10de", None, ["nvidia"]),
        ("0x1002", 16 << 30, ["amd"]),
        ("0x1002", 512 << 20, []),  # integrated
        ("0x8086", None, []),
        ("0x1af4", None, []),  # a virtual machine's display
    ],
)
def test_which_render_nodes_are_worth_computing_on(
    tmp_path: Path, vendor: str, memory: int | None, seen: list[str]
) -> None:
    node = tmp_path / "sys/class/drm/renderD128/device"
    node.mkdir(parents=True)
    (node / "vendor").write_text(f"{vendor}\n")
    if memory is not None:
        (node / "mem_info_vram_total").write_text(f"{memory}\n")
    assert [card.vendor for card in graphics_cards(tmp_path)] == seen


def test_which_variable_hides_every_gpu() -> None:
    assert hidden_by({"CUDA_VISIBLE_DEVICES": ""}, "cuda") == "CUDA_VISIBLE_DEVICES"
    assert hidden_by({"CUDA_VISIBLE_DEVICES": "-1"}, "cpu") == "CUDA_VISIBLE_DEVICES"
    assert hidden_by({"CUDA_VISIBLE_DEVICES": "0"}, "cuda") is None
    assert hidden_by({"CUDA_VISIBLE_DEVICES": ""}, "vulkan") is None
    assert hidden_by({}, "cuda") is None


def test_a_build_without_gpu_code_beside_a_card(load: Load) -> None:
    situation = load()
    card = GraphicsCard("nvidia", "NVIDIA L4", "/dev/nvidia0")
    beside = replace(situation.hardware, cards=(card,))
    found = evidence_shown(replace(situation, hardware=beside), "cpu_only_build")
    assert "beside the NVIDIA L4 (/dev/nvidia0)" in found.text
    assert found.remedy.change == (
        'CMAKE_ARGS="-DGGML_CUDA=on" pip install --force-reinstall --no-cache-dir --no-deps '
        f"--no-binary llama-cpp-python llama-cpp-python=={situation.info.engine_version}"
    )
    hidden = replace(beside, gpus_hidden_by="CUDA_VISIBLE_DEVICES")
    assert evidence(replace(situation, hardware=hidden), "cpu_only_build") is None
    bare = replace(situation.hardware, cards=())
    assert evidence(replace(situation, hardware=bare), "cpu_only_build") is None


def while_decoding(card: Card, text: str) -> list[FitnessFinding]:
    """Return the findings of the real binding on the stand-in card, with an engine on it."""
    return [FitnessFinding(**finding) for finding in card.observe(text)["findings"]]


@linux
@pytest.mark.parametrize(
    ("name", "cause", "change"),
    [
        ("foreign_process", "busy_gpu", "close process 1 (train)"),
        ("thermal_throttle", "gpu_throttled", "cool the card: its fans, its dust, its case"),
    ],
)
def test_what_a_card_does_while_decoding(
    load: Load, card: Card, name: str, cause: str, change: str
) -> None:
    situation = with_findings(load(), *while_decoding(card, scenario(name)))
    found = evidence_shown(situation, cause)
    assert found.certain
    assert found.remedy.change == change


@linux
def test_a_card_that_stops_answering(load: Load, card: Card) -> None:
    found = card.observe(scenario("healthy"), during="more('lost 0')")["findings"]
    findings = [FitnessFinding(**finding) for finding in found]
    assert evidence_shown(with_findings(load(), *findings), "gpu_lost").certain


@linux
def test_a_power_limit_below_the_cards_default(load: Load, card: Card) -> None:
    text = scenario("power_cap").replace("limits 0 450000 450000", "limits 0 450000 300000")
    found = evidence_shown(with_findings(load(), *while_decoding(card, text)), "gpu_power_cap")
    assert found.certain
    assert "at its power limit of 300 W" in found.text
    assert found.remedy.change == "raise the power limit: nvidia-smi -pl 450"


@linux
def test_a_narrow_link_is_a_finding_where_layers_are_on_both_sides_of_it(
    load: Load, card: Card
) -> None:
    findings = while_decoding(card, scenario("narrow_link"))
    alone = evidence_shown(with_findings(load(), *findings), "gpu_pcie")
    assert not alone.certain
    situation = load()
    assert situation.info is not None
    assert situation.info.gpu is not None
    both = replace(
        situation.info.gpu,
        layers_on_gpu=20,
        devices=(DeviceLoad("CUDA0", "a card", 20), DeviceLoad("CPU", "", 11)),
    )
    split = replace(situation, info=replace(situation.info, gpu=both))
    assert evidence_shown(with_findings(split, *findings), "gpu_pcie").certain


@linux
def test_a_card_at_its_power_limit_or_with_a_desktop_is_healthy(load: Load, card: Card) -> None:
    desktop = "compute 0 1 1048576 Xorg\ngraphics 0 1 1048576 Xorg\n"
    findings = while_decoding(card, scenario("power_cap") + desktop)
    assert {finding.name for finding in findings} == {"gpu_power_cap", "busy_gpu"}
    situation = with_findings(load(), *findings)
    assert [found for found in examine(situation) if found.cause.theme == "machine"] == []


def test_cores_that_the_host_takes_away(load: Load) -> None:
    findings = judge(BusyReport(10.0, 2, 0.0, steal_cores=0.6), HostNeeds(threads=2, cores=2))
    assert (
        "cores of its own"
        in evidence_shown(with_findings(load(), *findings), "stolen_cores").remedy.change
    )
    assert evidence(load(), "stolen_cores") is None


@pytest.mark.parametrize(
    "name", ["cpu_quota", "cpu_throttled", "memory_pressure", "stolen_cores", "gpu_throttled"]
)
def test_what_a_check_finds_unfit_is_a_cause_and_its_note_is_none(load: Load, name: str) -> None:
    """How each check comes to its finding is tested with the checks."""
    assert name in CHECKS
    finding = FitnessFinding(name, "invalid", "seen")
    assert evidence_shown(with_findings(load(), finding), name).certain
    warned = with_findings(load(), replace(finding, severity="warn"))
    assert not evidence_shown(warned, name).certain
    assert evidence(with_findings(load(), replace(finding, severity="note")), name) is None


def test_every_cause_that_is_a_fitness_check_is_one() -> None:
    names = {cause.name for cause in CAUSES if cause.theme == "machine"} - {"unfit_machine"}
    assert names <= CHECKS.keys()


def test_a_check_without_a_rule_of_its_own_is_reported_where_it_makes_a_run_unfit(
    load: Load,
) -> None:
    unfit = FitnessFinding("gpu_xid", "invalid", "the driver reported Xid 79")
    assert evidence_shown(with_findings(load(), unfit), "unfit_machine").text == unfit.text
    note = replace(unfit, severity="note")
    assert evidence(with_findings(load(), note), "unfit_machine") is None
    warning = replace(unfit, severity="warn")
    assert not evidence_shown(with_findings(load(), warning), "unfit_machine").certain
