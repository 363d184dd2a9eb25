"""Clocks, governors and heat of the CPU, read from trees of files as the kernel shows them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from host_tree import CPUS, Tree, names, only_finding

from pytest_llmperf.engine.kinds import LLAMA_CPP
from pytest_llmperf.machine.fitness import HostNeeds
from pytest_llmperf.machine.host import HostReport, HostWatch
from pytest_llmperf.session import machine_watch
from pytest_llmperf.session.machine_watch import MachineWatch, WatchSettings


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


# cpu_throttled


def _heat(tree: Tree, events: int, milliseconds: int | None = None) -> None:
    for what in ("core", "package"):
        tree.cpus(f"thermal_throttle/{what}_throttle_count", events)
        if milliseconds is not None:
            tree.cpus(f"thermal_throttle/{what}_throttle_total_time_ms", milliseconds)


@pytest.mark.parametrize(
    ("events", "milliseconds", "found"),
    [
        (0, 0, []),
        (3, None, [("cpu_throttled", "invalid")]),
        (3, 500, [("cpu_throttled", "invalid")]),
        (1, 0, [("cpu_throttled", "warn")]),
    ],
)
def test_a_cpu_that_was_too_hot_is_found(
    tree: Tree, events: int, milliseconds: int | None, found: list[tuple[str, str]]
) -> None:
    _heat(tree, 7, None if milliseconds is None else 100)
    grown = None if milliseconds is None else 100 + milliseconds
    assert names(tree.watched(lambda: _heat(tree, 7 + events, grown), wait=0.1)) == found


# cpu_clock


def _clocks(tree: Tree, *megahertz: int) -> HostReport:
    """Return the report of a watch whose looks saw these clocks, one after another."""
    tree.cpus("cpufreq/scaling_cur_freq", megahertz[0] * 1000)
    watch = HostWatch(root=tree.root, cpus=CPUS)
    for clock in megahertz[1:]:
        tree.cpus("cpufreq/scaling_cur_freq", clock * 1000)
        watch.look()
    return watch.report()


def test_a_clock_that_falls_from_first_to_last_is_reported(tree: Tree) -> None:
    finding = only_finding(_clocks(tree, 4900, 4900, 4800, 4200, 4000, 3900, 3900))
    assert (finding.name, finding.severity) == ("cpu_clock", "warn")
    assert "fell from 4.90 to 3.90 GHz" in finding.text


@pytest.mark.parametrize(
    "megahertz",
    [
        (4900, 4900, 800, 4900, 4900, 4900, 800),  # a core that had nothing to do, now and then
        (800, 4900, 4900, 4900, 4900, 4900),
        (4900, 4800, 4900, 4700, 4800, 4800),
        (4900, 2000),  # too few looks to tell
    ],
)
def test_a_clock_that_only_jitters_is_silent(tree: Tree, megahertz: tuple[int, ...]) -> None:
    assert names(_clocks(tree, *megahertz)) == []


# The clock of one side


@pytest.mark.parametrize(
    ("layers", "looks", "expected"),
    [(0, 6, 3900.0), (5, 6, 3900.0), (10, 6, None), (0, 3, None), (None, 6, None)],
)
def test_the_cpu_has_a_clock_while_an_engine_computes_on_it(
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    layers: int | None,
    looks: int,
    expected: float | None,
) -> None:
    tree.cpus("cpufreq/scaling_cur_freq", 3_900_000)
    monkeypatch.setattr(machine_watch, "HostWatch", lambda _: HostWatch(root=tree.root, cpus=CPUS))
    # An application does not say where it computes.
    gpu = None if layers is None else SimpleNamespace(layers_on_gpu=layers, total_layers=10)
    info: Any = SimpleNamespace(gpu=gpu)
    client: Any = SimpleNamespace(kind=LLAMA_CPP, processes=(1,), info=info)
    watch = MachineWatch(WatchSettings(HostNeeds()), client)
    for look in range(looks - 1):
        # A core may have had nothing to do at a look.
        tree.cpus("cpufreq/scaling_cur_freq", 800_000 if look == 1 else 3_900_000)
        watch.sample()
    assert watch.cpu_mhz() == expected


# cpu_governor


@pytest.mark.parametrize(
    ("governor", "driver", "preference", "reported"),
    [
        ("performance", "acpi-cpufreq", None, False),
        ("schedutil", "acpi-cpufreq", None, False),
        ("powersave", "acpi-cpufreq", None, True),
        ("conservative", "acpi-cpufreq", None, True),
        # With this driver powersave follows the load, and every desktop has it.
        ("powersave", "intel_pstate", "balance_performance", False),
        ("powersave", "intel_pstate", "power", True),
        ("powersave", "amd-pstate-epp", "balance_power", True),
    ],
)
def test_a_governor_that_saves_power_is_reported(
    tree: Tree, governor: str, driver: str, preference: str | None, reported: bool
) -> None:
    tree.cpus("cpufreq/scaling_governor", governor)
    tree.cpus("cpufreq/scaling_driver", driver)
    if preference is not None:
        tree.cpus("cpufreq/energy_performance_preference", preference)
    assert names(tree.watched(lambda: None)) == ([("cpu_governor", "warn")] if reported else [])
