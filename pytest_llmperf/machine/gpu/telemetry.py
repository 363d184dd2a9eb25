"""A thread that samples the GPUs' counters while an engine runs.

NVML is opened once per session, before any engine starts, so that other processes' use of the
GPUs is known. Times are ``time.perf_counter``'s: on Linux, one clock for all processes and for
the engine's timelines; see ``windows`` for other systems.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmperf.machine.gpu.counters import (
    COUNTERS,
    PROCESSES,
    Answers,
    CounterReader,
    CounterReading,
)
from pytest_llmperf.machine.gpu.devices import Gpu, read_gpu
from pytest_llmperf.machine.gpu.nvml import (
    Device,
    NvmlUnavailableError,
    ask,
    close_nvml,
    devices,
    open_nvml,
)
from pytest_llmperf.machine.gpu.processes import GpuProcesses

HZ = 20.0
#: Largest share of one core for sampling at HZ; a slow NVML is sampled less often. An engine on
#: all cores loses up to a third more than this share, through wake-ups and cold caches
#: (benchmarks/telemetry_overhead.py). A smaller one would give too few samples on a slow free core.
MAX_CPU = 0.005
#: Samples kept per GPU: half an hour at 20 Hz; then every other one is dropped.
_MAX_READINGS = 36_000
#: Counters that every card is expected to have; missing ECC is not reported.
_EXPECTED = frozenset({PROCESSES, *(counter.label for counter in COUNTERS if counter.expected)})
#: Xid events are looked for once a second.
_EVENTS_EVERY = 20


@dataclass
class Track:
    """Readings of one GPU while one engine was watched.

    Attributes:
        facts: its constant facts.
        used_before: bytes in use before any engine of this session started, or None.
        readings: in order of time.
        lost_at: time when the card stopped answering, or None.
        xids: times and codes of the driver's error events.
    """

    facts: Gpu
    used_before: int | None = None
    readings: list[CounterReading] = field(default_factory=list)
    lost_at: float | None = None
    xids: list[tuple[float, int]] = field(default_factory=list)


class Telemetry:
    """An NVML session with the GPUs that the engine may use.

    Attributes:
        facts: constant facts of each GPU, in the engine's order.
        notes: unavailable data, each noted once per session.
    """

    def __init__(self, pynvml: Any, found: list[Device]) -> None:
        self._pynvml = pynvml
        self._devices = found
        self._samplers: list[Sampler] = []
        self._noted: dict[str, None] = {}
        self._closed = False
        self.facts = tuple(read_gpu(pynvml, device) for device in found)
        memory = [ask(pynvml, pynvml.nvmlDeviceGetMemoryInfo, device.handle) for device in found]
        self._before = [None if info is None else int(info.used) for info in memory]

    @classmethod
    def open(cls, environ: Mapping[str, str] | None = None) -> Telemetry | None:
        """Open NVML; return None if it shows no GPU to this environment.

        ``environ``: the engine's environment (default: this process's), for CUDA_VISIBLE_DEVICES.
        """
        try:
            pynvml = open_nvml()
        except NvmlUnavailableError:
            return None
        usable, _ = devices(pynvml, os.environ if environ is None else environ)
        if not usable:
            close_nvml(pynvml)
            return None
        return cls(pynvml, usable)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about unavailable data, one sentence each."""
        return tuple(self._noted)

    def note(self, text: str) -> None:
        """Add a note, once per session."""
        self._noted.setdefault(text)

    def watch(
        self, engine_pids: Collection[int], hz: float = HZ, *, beside: bool = False
    ) -> Sampler:
        """Start sampling for the engine with these processes.

        Earlier samplers are stopped, unless this engine runs ``beside`` theirs.
        """
        if self._closed:
            raise RuntimeError("this session with NVML is over")
        if not beside:
            self._stop()
        self._samplers = [earlier for earlier in self._samplers if earlier.running]
        sampler = Sampler(self._pynvml, self._devices, self._tracks(), engine_pids, self.note, hz)
        self._samplers.append(sampler)
        sampler.start()
        return sampler

    def look(self, engine_pids: Collection[int]) -> tuple[list[Track], GpuProcesses]:
        """Read every GPU once; ``engine_pids`` are the engine's processes."""
        tracks, owners = self._tracks(), GpuProcesses(self._pynvml, engine_pids)
        for track, device in zip(tracks, self._devices, strict=True):
            now = time.perf_counter()
            answers = CounterReader(self._pynvml, device).read(0, now)
            if answers is None:
                track.lost_at = now
            else:
                track.readings.append(answers.reading())
        return tracks, owners

    def _tracks(self) -> list[Track]:
        return [Track(facts, used) for facts, used in zip(self.facts, self._before, strict=True)]

    def _stop(self) -> None:
        for sampler in self._samplers:
            sampler.stop()

    def close(self) -> None:
        """Stop sampling and end the NVML session; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._stop()
        if any(sampler.running for sampler in self._samplers):
            return  # it hangs inside the driver, where this thread would hang as well
        close_nvml(self._pynvml)


class Sampler:
    """Samples all GPUs of a session from ``start`` to ``stop``, in a separate thread.

    The thread ends with ``stop``, and with the process. It never raises in the session: a
    lost card, a failing counter or an unexpected error ends its part of the sampling, and is
    noted.
    """

    def __init__(
        self,
        pynvml: Any,
        found: Sequence[Device],
        tracks: Sequence[Track],
        engine_pids: Collection[int],
        note: Callable[[str], None],
        hz: float = HZ,
    ) -> None:
        self._pynvml = pynvml
        self._devices = found
        self._tracks = tracks
        self._readers: list[CounterReader] = []
        self._kept: list[deque[Answers]] = [deque() for _ in found]
        self._note = note
        self._interval = 1.0 / hz
        # A caller that asks for more samples accepts their cost.
        self._max_cpu = MAX_CPU * max(1.0, hz / HZ)
        self._events: Any = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.owners = GpuProcesses(pynvml, engine_pids)
        self._thread = threading.Thread(target=self._run, daemon=True, name="llmperf-gpus")

    def start(self) -> None:
        """Start sampling; the first sample is taken at once."""
        self._thread.start()

    def stop(self) -> None:
        """End sampling and wait for the thread; may be called again."""
        self._ended.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            # A driver that hangs must not hang the session; the thread is a daemon.
            self._thread.join(5.0)

    @property
    def running(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def tracks(self) -> list[Track]:
        """Return everything sampled so far."""
        self._settle()
        with self._lock:
            return [
                Track(t.facts, t.used_before, list(t.readings), t.lost_at, list(t.xids))
                for t in self._tracks
            ]

    def _settle(self) -> None:
        """Decode the answers since the last call."""
        with self._lock:
            for track, kept in zip(self._tracks, self._kept, strict=True):
                while kept:
                    track.readings.append(kept.popleft().reading())
                if len(track.readings) > _MAX_READINGS:
                    del track.readings[1::2]

    def _run(self) -> None:
        try:
            self._readers = [CounterReader(self._pynvml, device) for device in self._devices]
            self._listen()
            self._sample_on()
        except Exception as error:
            # A sampler must not end the session.
            kind = type(error).__name__
            self._note(f"the GPUs were no longer watched from here on: {kind}: {error}")
        finally:
            if self._events is not None:
                ask(self._pynvml, self._pynvml.nvmlEventSetFree, self._events)

    def _sample_on(self) -> None:
        tick, due, used = 0, time.perf_counter(), time.thread_time()
        costs: deque[float] = deque(maxlen=_EVENTS_EVERY)
        while not self._ended.is_set():
            self._sample(tick)
            tick += 1
            now, spent = time.perf_counter(), time.thread_time()
            costs.append(spent - used)
            used = spent
            # Late samples are not made up for, which would only disturb the engine more.
            due = max(due + max(self._interval, _usual(costs) / self._max_cpu), now)
            if self._ended.wait(due - now):
                return

    def _sample(self, tick: int) -> None:
        t = time.perf_counter()
        for reader, track, kept in zip(self._readers, self._tracks, self._kept, strict=True):
            answers = reader.read(tick, t)
            if answers is None:
                self._lose(track, t)
                continue
            for pid in answers.pids():
                self.owners.look_up(pid)
            kept.append(answers)
            if len(kept) >= _MAX_READINGS:
                self._settle()
        if tick == 0:
            self._say_what_is_unknown()
        if self._events is not None and tick % _EVENTS_EVERY == 0:
            self._take_events(t)

    def _lose(self, track: Track, t: float) -> None:
        if track.lost_at is None:
            with self._lock:
                track.lost_at = t
            self._note(
                f"the {track.facts.label} stopped responding (it has fallen off the bus, or its "
                "driver was reset); no counters from then on"
            )

    def _say_what_is_unknown(self) -> None:
        """Note unreadable counters, once per card model."""
        for reader, track in zip(self._readers, self._tracks, strict=True):
            name = track.facts.name + (" (a MIG slice)" if track.facts.mig else "")
            lacking = [label for label in reader.lacking if label in _EXPECTED]
            if lacking:
                self._note(f"the {name} does not report: {', '.join(lacking)}")
            if reader.denied:
                self._note(
                    f"the driver does not let this user see these counters of the {name}: "
                    f"{', '.join(reader.denied)}"
                )

    def _listen(self) -> None:
        """Subscribe to critical errors, if possible."""
        pynvml = self._pynvml
        self._events = ask(pynvml, pynvml.nvmlEventSetCreate)
        if self._events is None:
            return
        cards = {device.index: device.card for device in self._devices}
        for card in cards.values():
            kind = pynvml.nvmlEventTypeXidCriticalError
            ask(pynvml, pynvml.nvmlDeviceRegisterEvents, card, kind, self._events)

    def _take_events(self, t: float) -> None:
        pynvml = self._pynvml
        for _ in range(100):
            event = ask(pynvml, pynvml.nvmlEventSetWait_v2, self._events, 0)
            if event is None:
                return
            uuid = ask(pynvml, pynvml.nvmlDeviceGetUUID, event.device)
            for device, track in zip(self._devices, self._tracks, strict=True):
                if ask(pynvml, pynvml.nvmlDeviceGetUUID, device.card) == uuid:
                    with self._lock:
                        track.xids.append((t, int(event.eventData)))


def _usual(costs: Collection[float]) -> float:
    """Return the mean CPU seconds per sample, without the costliest, which looks up processes."""
    return (sum(costs) - max(costs)) / max(len(costs) - 1, 1)
