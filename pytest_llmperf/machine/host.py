"""Linux counters of memory, clocks, heat and CPU quotas while an engine runs.

A counter is None if the system lacks or hides it, or the process is gone.
Sources: the kernel's Documentation/accounting/psi.rst, admin-guide/cgroup-v2.rst,
admin-guide/pm/cpufreq.rst, arch/x86/kernel/cpu/mce/therm_throt.c, proc_pid_stat(5).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.cpus import allowed_cpus, control_groups
from pytest_llmperf.kernel_files import read_number, read_numbers, read_text
from pytest_llmperf.machine.free_memory import group_limits

_ROOT = Path("/")
#: With more CPUs than this, no clock is read: some kernels interrupt a CPU to read its clock.
_MAX_CLOCKS = 8


#: Counters by their kind, then by the path of their file.
CounterValues = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Counters:
    """Growth of the counters in a window: of each, the largest over the system, cgroups or CPUs.

    Attributes:
        some_us, full_us: microseconds in which some, or all, processes waited for memory.
        stops: number of times that a CPU quota stopped this session's processes.
        stopped_us: total time that they were stopped, microseconds, summed over the cores.
        heat_events: number of times that a CPU lowered its clocks because of heat.
        heat_ms: total time with clocks lowered by heat, milliseconds.
    """

    some_us: int | None = None
    full_us: int | None = None
    stops: int | None = None
    stopped_us: int | None = None
    heat_events: int | None = None
    heat_ms: int | None = None

    @classmethod
    def between(cls, before: CounterValues, after: CounterValues) -> Counters:
        """Return the largest growth of each kind; None without readings at both times."""
        grown = {
            kind: [
                max(0, count - before[kind][source])
                for source, count in counts.items()
                if source in before.get(kind, {})
            ]
            for kind, counts in after.items()
        }
        return cls(**{kind: max(values) for kind, values in grown.items() if values})


@dataclass(frozen=True)
class Governor:
    """Frequency control of a CPU: driver, governor, and the driver's preference."""

    driver: str
    name: str
    preference: str = ""


@dataclass(frozen=True)
class HostReport:
    """Report of a watch so far: growth of counters, clocks, memory.

    Attributes:
        seconds: length of the window.
        counters: their growth.
        available_bytes: the smallest available memory at any look.
        clocks_mhz: the highest clock of the CPUs at each look, in order.
        governors: the distinct ones of the CPUs.
        faults: pages that the engine waited for during timed replays.
        read_bytes: bytes that it read from disk during timed replays.
    """

    seconds: float
    counters: Counters = Counters()
    available_bytes: int | None = None
    clocks_mhz: tuple[float, ...] = ()
    governors: tuple[Governor, ...] = ()
    faults: int | None = None
    read_bytes: int | None = None


@dataclass
class _Engine:
    """Page faults and reads of the engine's process, summed over timed replays."""

    faults: int | None = None
    read_bytes: int | None = None
    mark: tuple[int | None, int | None] = (None, None)

    def count(self, now: tuple[int | None, int | None]) -> None:
        """Add the growth since the mark, and move the mark to ``now``."""
        self.faults = _sum(self.faults, _growth(self.mark[0], now[0]))
        self.read_bytes = _sum(self.read_bytes, _growth(self.mark[1], now[1]))
        self.mark = now


class HostWatch:
    """A watch over the host and an engine on it; a look costs a millisecond.

    Args:
        pids: the engine's processes; without any, only the machine is watched.
        root: where ``proc`` and ``sys`` are looked up.
        cpus: CPUs to watch; None for those this process may run on.
    """

    def __init__(
        self, pids: Sequence[int] = (), root: Path = _ROOT, cpus: Sequence[int] | None = None
    ) -> None:
        self._pids = pids
        self._root = root
        self._cpus = sorted(allowed_cpus()) if cpus is None else cpus
        self._least: int | None = None
        self._clocks: list[float] = []
        self._engine = _Engine()
        self._began = time.monotonic()
        self._before = read_counters(root, self._cpus, pids)
        self.look()

    def look(self) -> None:
        """Take a reading between two replays; the next timed replay counts from it."""
        available = available_bytes(self._root)
        if available is not None:
            self._least = available if self._least is None else min(self._least, available)
        clocks = clocks_mhz(self._root, self._cpus)
        if clocks:
            self._clocks.append(max(clocks))
        self._engine.mark = self._of_engine()

    def timed(self) -> None:
        """Count the engine's faults and reads since the last look as those of a timed replay."""
        self._engine.count(self._of_engine())

    def report(self) -> HostReport:
        """Report the watch so far; it goes on."""
        after = read_counters(self._root, self._cpus, self._pids)
        return HostReport(
            seconds=max(time.monotonic() - self._began, 1e-6),
            counters=Counters.between(self._before, after),
            available_bytes=self._least,
            clocks_mhz=tuple(self._clocks),
            governors=governors(self._root, self._cpus),
            faults=self._engine.faults,
            read_bytes=self._engine.read_bytes,
        )

    def _of_engine(self) -> tuple[int | None, int | None]:
        faults: int | None = None
        read: int | None = None
        for pid in self._pids:
            more = faults_of(pid, self._root)
            faults, read = _sum(faults, more[0]), _sum(read, more[1])
        return faults, read


def read_counters(root: Path, cpus: Iterable[int], pids: Sequence[int] = ()) -> CounterValues:
    """Read all counters; cgroups are those of ``pids``, or else of this process."""
    all_groups = (group for pid in pids or (None,) for group in control_groups("cpu", root, pid))
    groups = tuple(dict.fromkeys(all_groups))
    return {**_pressure(root, groups), **_quota_stops(groups), **_heat(root, cpus)}


def _pressure(root: Path, groups: Iterable[tuple[int, Path]]) -> CounterValues:
    """Return the microseconds of waiting for memory, in the system and in each cgroup."""
    waited: CounterValues = {"some_us": {}, "full_us": {}}
    files = [root / "proc" / "pressure" / "memory"]
    files += [folder / "memory.pressure" for _, folder in groups]
    for file in files:
        for line in read_text(file).splitlines():
            kind, _, rest = line.partition(" ")
            total = rest.rpartition("total=")[2]
            if f"{kind}_us" in waited and total.isdigit():
                waited[f"{kind}_us"][str(file)] = int(total)
    return waited


def _quota_stops(groups: Iterable[tuple[int, Path]]) -> CounterValues:
    """Return the number and total time of stops by quotas, for each cgroup."""
    stops: CounterValues = {"stops": {}, "stopped_us": {}}
    for version, folder in groups:
        stat = read_numbers(folder / "cpu.stat")
        time_us = stat.get("throttled_usec")
        if version == 1 and "throttled_time" in stat:
            time_us = stat["throttled_time"] // 1000
        if "nr_throttled" in stat and time_us is not None:
            stops["stops"][str(folder)] = stat["nr_throttled"]
            stops["stopped_us"][str(folder)] = time_us
    return stops


def _heat(root: Path, cpus: Iterable[int]) -> CounterValues:
    """Return the number and total time of clock reductions by heat, per CPU and package."""
    reductions: CounterValues = {"heat_events": {}, "heat_ms": {}}
    for cpu in cpus:
        folder = _cpu(root, cpu) / "thermal_throttle"
        for scope in ("core", "package"):
            source = f"{folder}/{scope}"
            if (count := read_number(folder / f"{scope}_throttle_count")) is not None:
                reductions["heat_events"][source] = count
            if (ms := read_number(folder / f"{scope}_throttle_total_time_ms")) is not None:
                reductions["heat_ms"][source] = ms
    return reductions


def available_bytes(root: Path = _ROOT) -> int | None:
    """Return the bytes available without swapping; None if unknown.

    The smallest of the system's and what the limits of this process's control groups leave.
    """
    free = read_numbers(root / "proc" / "meminfo").get("MemAvailable:")
    if free is None:
        return None
    return max(0, min((free * 1024, *(left for _, left in group_limits(root)))))


def clocks_mhz(root: Path, cpus: Sequence[int]) -> list[float]:
    """Return the current clocks of the CPUs; [] if they are hidden, or too many.

    With many CPUs most are idle while the engine works, and idle clocks mean nothing.
    """
    if len(cpus) > _MAX_CLOCKS:
        return []
    files = (_cpu(root, cpu) / "cpufreq" / "scaling_cur_freq" for cpu in cpus)
    return [khz / 1000 for file in files if (khz := read_number(file)) is not None]


def governors(root: Path, cpus: Iterable[int]) -> tuple[Governor, ...]:
    """Return the distinct frequency controls of the CPUs; () if hidden."""
    distinct: dict[Governor, None] = {}
    for cpu in cpus:
        folder = _cpu(root, cpu) / "cpufreq"
        name = read_text(folder / "scaling_governor").strip()
        if name:
            driver = read_text(folder / "scaling_driver").strip()
            preference = read_text(folder / "energy_performance_preference").strip()
            distinct[Governor(driver, name, preference)] = None
    return tuple(distinct)


def faults_of(pid: int, root: Path = _ROOT) -> tuple[int | None, int | None]:
    """Return the major page faults of a process and the bytes it read from disk."""
    folder = root / "proc" / str(pid)
    stat = read_text(folder / "stat")
    # The name is in parentheses and may contain any character.
    fields = stat[stat.rfind(")") + 2 :].split()
    faults = int(fields[9]) if len(fields) > 9 and fields[9].isdigit() else None
    read = read_numbers(folder / "io", ":").get("read_bytes")
    return faults, read


def _cpu(root: Path, cpu: int) -> Path:
    return root / "sys" / "devices" / "system" / "cpu" / f"cpu{cpu}"


def _growth(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)


def _sum(total: int | None, more: int | None) -> int | None:
    return total if more is None else (total or 0) + more
