"""A machine made of the files that the kernel shows, for features that a real one may lack."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pytest_llmperf.machine.fitness import FitnessFinding, HostNeeds, judge_host
from pytest_llmperf.machine.host import HostReport, HostWatch

#: CPU numbers of the trees.
CPUS = (0, 1)
#: One thread, and a core to spare.
NEED = HostNeeds(threads=1, cores=2)
#: Long enough for shares of time to be judged.
WINDOW = 0.6

Change = Callable[[], object]


class Tree:
    """A machine made of files, as the kernel shows them; empty at first."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: object) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def cpus(self, path: str, text: object) -> None:
        for cpu in CPUS:
            self.write(f"sys/devices/system/cpu/cpu{cpu}/{path}", text)

    def pressure(self, some: float, full: float) -> None:
        """Set the seconds in which some, and all, processes waited for memory so far."""
        lines = (
            f"{k} avg10=0.00 total={round(s * 1e6)}" for k, s in (("some", some), ("full", full))
        )
        self.write("proc/pressure/memory", "\n".join(lines))

    def watched(self, change: Change, *, wait: float = 0.0) -> HostReport:
        """Return what a watch reports of a window in which ``change`` happened."""
        watch = HostWatch(root=self.root, cpus=CPUS)
        change()
        time.sleep(wait)
        return watch.report()


def names(report: HostReport, need: HostNeeds | None = None) -> list[tuple[str, str]]:
    return [(finding.name, finding.severity) for finding in judge_host(report, need or NEED)]


def only_finding(report: HostReport, need: HostNeeds | None = None) -> FitnessFinding:
    (finding,) = judge_host(report, need or NEED)
    return finding
