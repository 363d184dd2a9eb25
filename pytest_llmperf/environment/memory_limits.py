"""How much memory this process may use: the machine's, and its control group's limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


@dataclass(frozen=True)
class Memory:
    """Bytes of memory.

    Attributes:
        total: the machine's, or the control group's limit where that is less.
        available: what can be had without swapping, by the kernel's own estimate.
        limited: a control group (a container, a job) sets ``total``.
    """

    total: int
    available: int
    limited: bool = False


def read_memory(root: Path = _ROOT) -> Memory:
    """Read what there is, every ancestor's limit counted.

    Args:
        root: where ``proc/self/cgroup`` and ``sys/fs/cgroup`` are looked up.
    """
    import psutil

    machine = psutil.virtual_memory()
    total, available, limited = int(machine.total), int(machine.available), False
    for limit, used in _limits(root):
        if limit < total:
            total, limited = limit, True
        available = min(available, max(0, limit - used))
    return Memory(total, available, limited)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield (limit, used without the page cache that can be dropped) of every group."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            places = [(mount, "memory.max", "memory.current") for mount in (mounts,)]
            places.append((mounts / "unified", "memory.max", "memory.current"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            places = [(mounts / controllers, *names), (mounts / "memory", *names)]
        else:
            continue
        for mount, limit_file, used_file in places:
            for folder in _ancestors(mount, group):
                limit = _text(folder / limit_file).strip()
                # No limit reads "max", or a number beyond every machine's memory.
                if limit.isdigit() and int(limit) < 1 << 60:
                    used = _text(folder / used_file).strip()
                    kept = (int(used) if used.isdigit() else 0) - _droppable(folder)
                    yield int(limit), max(0, kept)


def _droppable(folder: Path) -> int:
    for line in _text(folder / "memory.stat").splitlines():
        name, _, number = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and number.strip().isdigit():
            return int(number)
    return 0


def _ancestors(mount: Path, group: str) -> list[Path]:
    """Return the group's folder and all above it, the mount's own included."""
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
