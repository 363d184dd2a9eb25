"""Number of CPUs that this process may use, given its affinity and cgroup quotas."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pytest_llmperf.kernel_files import read_number, read_text

_ROOT = Path("/")
#: More threads than this rarely help: decoding is bound by memory.
AUTO_LIMIT = 8


def usable_cpus(root: Path = _ROOT) -> int:
    """Return the number of CPUs that this process may use, at least 1.

    The minimum of the machine's CPUs, the process's affinity and its cgroup's
    quota (v1 or v2, every ancestor included). A quota is rounded down: a thread
    with only half a CPU makes every other thread wait for it.

    Args:
        root: where ``proc/self/cgroup`` and ``sys/fs/cgroup`` are looked up.
    """
    counts = [os.cpu_count() or 1, len(allowed_cpus())]
    counts += [max(1, int(quota)) for quota in _quotas(root)]
    return min(counts)


def auto_threads(limit: int = AUTO_LIMIT, root: Path = _ROOT) -> int:
    """Return the thread count for ``auto``: the usable CPUs, at most ``limit``."""
    return min(limit, usable_cpus(root))


def allowed_cpus() -> set[int]:
    """Return the numbers of the CPUs this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return set(affinity(0)) if affinity is not None else set(range(os.cpu_count() or 1))


def _quotas(root: Path) -> Iterator[float]:
    """Yield every CPU quota, in CPUs, that applies to this process."""
    for version, folder in control_groups("cpu", root):
        yield from (_quota_v2 if version == 2 else _quota_v1)(folder)


def control_groups(
    controller: str, root: Path = _ROOT, pid: int | None = None
) -> Iterator[tuple[int, Path]]:
    """Yield the control groups that limit a process: version (1 or 2) and folder.

    They are the process's own group and its ancestors; their folders may not exist.

    Args:
        controller: a controller of v1: ``cpu`` or ``memory``.
        root: where ``proc`` and ``sys/fs/cgroup`` are looked up.
        pid: the process; None is this one.
    """
    mounts = root / "sys" / "fs" / "cgroup"
    process = "self" if pid is None else str(pid)
    for line in read_text(root / "proc" / process / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            # A hybrid setup mounts the v2 tree one level down.
            for mount in (mounts, mounts / "unified"):
                yield from ((2, folder) for folder in _ancestors(mount, group))
        elif controller in controllers.split(","):
            for mount in (mounts / controllers, mounts / controller):
                yield from ((1, folder) for folder in _ancestors(mount, group))


def _ancestors(mount: Path, group: str) -> list[Path]:
    """Return the group's folder and its parents up to the mount.

    Inside a container the group may have the host's name while only the container's
    tree is mounted; the mount's root is then our group.
    """
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> Iterator[float]:
    fields = read_text(folder / "cpu.max").split()
    if len(fields) == 2 and all(field.isdigit() for field in fields) and int(fields[1]) > 0:
        yield int(fields[0]) / int(fields[1])


def _quota_v1(folder: Path) -> Iterator[float]:
    # Without a limit the file holds -1, which read_number does not accept.
    quota, period = (
        read_number(folder / "cpu.cfs_quota_us"),
        read_number(folder / "cpu.cfs_period_us"),
    )
    if quota is not None and period:
        yield quota / period
