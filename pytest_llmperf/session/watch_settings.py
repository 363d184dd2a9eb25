"""What is watched beside engine processes, and how severe findings are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.machine.gpu.telemetry import Telemetry
from pytest_llmperf.machine.host_fitness import Need
from pytest_llmperf.session.roofline_meter import RooflineMeter

if TYPE_CHECKING:
    from pytest_llmperf.fitness_checks import Severity


@dataclass(frozen=True)
class WatchSettings:
    """What a machine watch has to know.

    Attributes:
        need: what the engines need of their host.
        severities: the configured ones of fitness checks, by name.
        telemetry: the session with NVML while GPUs are watched, or None.
        no_gpu: why no GPU is watched; empty where one is.
        roofline: knows the limits that this machine's memory sets.
        gives_up: a process is ended early where the machine is clearly unfit.
    """

    need: Need
    severities: Mapping[str, Severity] = field(default_factory=dict)
    telemetry: Telemetry | None = None
    no_gpu: str = ""
    roofline: RooflineMeter = field(default_factory=RooflineMeter)
    gives_up: bool = True
