"""Detects what slows an engine's process down: tracers, profilers, debuggers, debug modes."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

#: Modules that are active once imported, and those that count only where the environment brought
#: them in: an application that imports one of the latter itself wants it.
_ACTIVE = ("pydevd",)
_BROUGHT_IN = ("ddtrace", "elasticapm", "newrelic", "opentelemetry", "scalene", "viztracer")
#: Tool ids that sys.monitoring reserves for debuggers, coverage and profilers.
_RESERVED_TOOLS = (0, 1, 2)
_SANITIZERS = re.compile(
    r"lib(?:asan|hwasan|lsan|msan|tsan|ubsan)\b|libclang_rt\.(?:asan|lsan|tsan|msan)|vgpreload_"
    r"|libheaptrack|libc_malloc_debug|libprofiler\b"
)
#: Variables that slow a process, with the fitness check of each and its harmless values.
_VARIABLES = {
    "PYTHONASYNCIODEBUG": ("debug_mode", ("",)),
    "PYTHONMALLOCSTATS": ("debug_mode", ("",)),
    "MALLOC_CHECK_": ("debug_mode", ("", "0")),
    "MALLOC_PERTURB_": ("debug_mode", ("", "0")),
    "CUDA_LAUNCH_BLOCKING": ("debug_mode", ("", "0")),
    "HIP_LAUNCH_BLOCKING": ("debug_mode", ("", "0")),
    "CUDA_INJECTION64_PATH": ("traced", ("",)),
}


class Instrument(NamedTuple):
    """One thing that slows the process.

    Attributes:
        check: the fitness check that reports it.
        name: what it is, with how it works: ``coverage (sys.settrace)``.
        from_outside: whether it was there before the engine was loaded.
    """

    check: str
    name: str
    from_outside: bool

    @classmethod
    def from_wire(cls, data: Any) -> Instrument:
        """Rebuild an instrument from JSON.

        Raises:
            TypeError, ValueError: the data is not an instrument.
        """
        check, name, from_outside = data
        return cls(str(check), str(name), bool(from_outside))


class InstrumentWatch:
    """Looks for instruments in this process, from before its engine is loaded."""

    def __init__(self) -> None:
        self._fixed = {*_brought_in(), *_interpreter()}
        self._from_outside = self._fixed | set(tracers()) | set(_at_times())
        self._seen: set[tuple[str, str]] = set()
        self._libraries: set[tuple[str, str]] | None = None

    def glance(self) -> None:
        """Note active instruments; takes under a microsecond if there are none."""
        self._seen.update(tracers())

    def take_seen(self) -> list[Instrument]:
        """Return the active instruments, and those seen since the last call."""
        if self._libraries is None:
            self._libraries = set(_libraries())
        outside = self._from_outside | self._libraries
        now = {*self._fixed, *self._libraries, *self._seen, *tracers(), *_at_times()}
        self._seen.clear()
        return [Instrument(*pair, pair in outside) for pair in sorted(now)]


def tracers() -> Iterator[tuple[str, str]]:
    """Yield functions called for every line, call or event of Python, as (check, name)."""
    for function, way in (
        (_gettrace(), "sys.settrace"),
        (_getprofile(), "sys.setprofile"),
    ):
        if function is not None:
            yield "traced", _named(function, way)
    if _monitoring is not None:
        for number in range(6):
            tool = _monitoring.get_tool(number)
            if tool and (number in _RESERVED_TOOLS or _monitoring.get_events(number)):
                yield "traced", f"{tool} (sys.monitoring)"


_gettrace, _getprofile = sys.gettrace, sys.getprofile
_monitoring: Any = getattr(sys, "monitoring", None)
try:
    # Not tracemalloc, which takes milliseconds to import.
    import _tracemalloc
except ImportError:
    _tracemalloc = None  # type: ignore[assignment]


def _at_times() -> Iterator[tuple[str, str]]:
    """Yield other switchable instruments, which take longer to detect."""
    yield from _threads_and_timers()
    for name in _ACTIVE:
        if name in sys.modules:
            yield "traced", name
    if is_running := getattr(sys.modules.get("yappi"), "is_running", None):
        with contextlib.suppress(Exception):
            if is_running():
                yield "traced", "yappi"
    if getattr(sys, "is_stack_trampoline_active", bool)():
        yield "traced", "Python's perf trampoline (-X perf)"
    if tracer := _attached():
        yield "traced", tracer
    if _tracemalloc is not None and _tracemalloc.is_tracing():
        yield "debug_mode", "tracemalloc"
    if gc.get_debug():
        yield "debug_mode", "gc.set_debug"


def _threads_and_timers() -> Iterator[tuple[str, str]]:
    for getter, way in (("gettrace", "threading.settrace"), ("getprofile", "threading.setprofile")):
        function = getattr(threading, getter, lambda: None)()
        if function is not None:
            yield "traced", _named(function, way)
    for timer in ("ITIMER_PROF", "ITIMER_VIRTUAL"):
        if hasattr(signal, timer) and any(signal.getitimer(getattr(signal, timer))):
            yield "traced", f"a sampling profiler ({timer})"


def _attached() -> str:
    """Name the process that traces this one's system calls; source: proc_pid_status(5)."""
    try:
        status = Path("/proc/self/status").read_text(errors="replace")
        pid = status.partition("TracerPid:")[2].split(maxsplit=1)[0]
        if pid == "0":
            return ""
        name = Path("/proc", pid, "comm").read_text(errors="replace").strip()
    except (OSError, IndexError):
        return ""
    return f"{name} (process {pid}, ptrace)"


def _brought_in() -> Iterator[tuple[str, str]]:
    for name in _BROUGHT_IN:
        if name in sys.modules:
            yield "traced", name


def _interpreter() -> Iterator[tuple[str, str]]:
    if sys.flags.dev_mode:
        yield "debug_mode", "Python's development mode (PYTHONDEVMODE)"
    if hasattr(sys, "gettotalrefcount"):
        yield "debug_mode", "a debug build of Python (Py_DEBUG)"
    allocator = os.environ.get("PYTHONMALLOC", "")
    if allocator.endswith("debug"):
        yield "debug_mode", f"PYTHONMALLOC={allocator}"
    for name, (check, harmless) in _VARIABLES.items():
        if (value := os.environ.get(name, "")) not in harmless:
            yield check, f"{name}={value}"


def _libraries() -> Iterator[tuple[str, str]]:
    """Yield loaded libraries that check or profile the program."""
    try:
        text = Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        text = os.environ.get("LD_PRELOAD", "") + os.environ.get("DYLD_INSERT_LIBRARIES", "")
    for path in dict.fromkeys(re.findall(r"\S*/\S+", text)):
        name = os.path.basename(path)  # noqa: PTH119
        if _SANITIZERS.search(name):
            yield "debug_mode", name


def _named(function: object, way: str) -> str:
    """Return the name of a trace function's package, and the way it was set."""
    owner = getattr(function, "__self__", function)
    module = getattr(function, "__module__", None) or type(owner).__module__
    package = str(module).partition(".")[0]
    return way if package == "builtins" else f"{package} ({way})"
