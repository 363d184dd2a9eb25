"""Cost of a load tool: the CPU time and the request rate of its processes while it sends."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from tools_env import SetupError

#: Seconds between two looks at the tool's processes.
_LOOK_S = 0.25
#: Shares of the requests between which it is measured: after its start, before its end.
_FROM, _TO = 0.2, 0.9
#: Seconds that a tool may take.
_LONGEST_S = 240.0


@dataclass(frozen=True)
class Look:
    """One look at a tool while it sends a load.

    Attributes:
        at: seconds on a clock.
        cpu: seconds of CPU time that its processes have used.
        answered: number of its requests that were answered.
    """

    at: float
    cpu: float
    answered: int


@dataclass(frozen=True)
class Cost:
    """What requests cost a client.

    Attributes:
        requests_per_sec: by the clock.
        cpu: seconds of CPU time for each request.
    """

    requests_per_sec: float
    cpu: float


def cost_between(looks: Sequence[Look], requests: int) -> Cost:
    """Return the cost of the requests in the middle of a load.

    What a tool does before and after them is not counted, nor is what it leaves for later.

    Raises:
        SetupError: there were fewer than two looks in that time.
    """
    low, high = _FROM * requests, _TO * requests
    within = [look for look in looks if low <= look.answered <= high]
    if len(within) < 2 or within[0].answered == within[-1].answered:
        raise SetupError(f"{requests} requests are too few to be looked at twice; send more")
    first, last = within[0], within[-1]
    sent = last.answered - first.answered
    return Cost(sent / (last.at - first.at), (last.cpu - first.cpu) / sent)


def cost_of(
    command: Sequence[str],
    requests: int,
    answered: Callable[[], int],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Cost:
    """Run a tool that sends ``requests`` requests; return its cost per request.

    Args:
        command: the tool's.
        requests: number of them.
        answered: returns how many the server has answered.
        folder: that the tool runs in.
        environment: variables that it needs.

    Raises:
        SetupError: it failed, or took too long.
    """
    log, looks, before = folder / "tool.log", list[Look](), answered()
    until = time.monotonic() + _LONGEST_S
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            while process.poll() is None and time.monotonic() < until:
                cpu = _cpu_seconds(process.pid)
                looks.append(Look(time.perf_counter(), cpu, answered() - before))
                time.sleep(_LOOK_S)
        finally:
            _end(process)
    done = answered() - before
    if process.returncode or done < requests:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        text = f"status {process.returncode}, {done} of {requests} requests were answered:"
        raise SetupError("\n".join([text, *tail]))
    return cost_between(looks, requests)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        own = psutil.Process(pid)
        return [own, *own.children(recursive=True)]
    except psutil.Error:
        return []


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all below it."""
    total = 0.0
    for process in _tree(pid):
        try:
            used = process.cpu_times()
        except psutil.Error:
            continue
        total += used.user + used.system
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a tool that still runs, with all its processes."""
    if process.poll() is None:
        for member in _tree(process.pid):
            member.kill()
        process.wait()
