"""NVML's counters of one GPU, and a reader of those that are due.

A sampler wakes up to cold caches, where every line of Python is slow. So the calls and their
buffers are prepared once, on the library that pynvml has loaded; a sample keeps the raw answers,
which are decoded on demand.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.machine.gpu.nvml import Device

#: NVML's "value not available" for a process's memory.
_NOT_AVAILABLE = 0xFFFF_FFFF_FFFF_FFFF
#: A counter that fails this often is not read again.
_GIVE_UP = 5


@dataclass(slots=True)
class CounterReading:
    """Counters of one GPU at one moment; None if not read this time, or unavailable.

    Attributes:
        t: seconds on this process's ``time.perf_counter``.
        gpu_busy, memory_busy: share of the driver's last period (a sixth of a second to a
            second) with a kernel running, and with memory read or written.
        memory_used, memory_free: bytes, over all processes.
        processes: bytes (None if unknown) by pid, of processes that compute or draw.
        computing, drawing: pids of those that compute, and of those that draw.
        power_w: power draw; averaged over a second by cards since Ampere.
        energy_j: energy used since the driver was loaded.
        sm_mhz, memory_mhz: the clocks now.
        reasons: NVML's clock event reasons, as bits.
        temperature_c: temperature of the GPU.
        pcie_generation, pcie_width: the link now.
        ecc_corrected, ecc_uncorrected: errors since the driver was loaded.
    """

    t: float
    gpu_busy: float | None = None
    memory_busy: float | None = None
    memory_used: int | None = None
    memory_free: int | None = None
    processes: Mapping[int, int | None] | None = None
    computing: frozenset[int] = frozenset()
    drawing: frozenset[int] = frozenset()
    power_w: float | None = None
    energy_j: float | None = None
    sm_mhz: int | None = None
    memory_mhz: int | None = None
    reasons: int | None = None
    temperature_c: int | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None


@dataclass(frozen=True)
class Counter:
    """One NVML query.

    Attributes:
        label: its name in a sentence.
        function: NVML function; its last argument points to the answer.
        answer: layout of the answer in ``struct``'s notation.
        fields: fields of a reading, in the answer's order; None is left out.
        scale: factor from NVML's unit to the field's; None keeps whole numbers.
        constants: arguments between the device and the answer.
        every, phase: it is read in the samples numbered ``phase``, ``phase + every`` and so on,
            and in the first.
        of_slice: it is read from the MIG slice instead of the card.
        expected: a card without it is worth a note.
    """

    label: str
    function: str
    answer: str
    fields: tuple[str | None, ...]
    scale: float | None = None
    constants: tuple[int, ...] = ()
    every: int = 2
    phase: int = 0
    of_slice: bool = False
    expected: bool = True


#: Constants of nvml.h: NVML_CLOCK_*, NVML_TEMPERATURE_GPU, NVML_MEMORY_ERROR_TYPE_* with
#: NVML_VOLATILE_ECC.
_SM, _MEM, _GPU_SENSOR, _CORRECTED, _UNCORRECTED = (1,), (2,), (0,), (0, 0), (1, 0)
#: At 20 Hz: energy in every sample, counters that decoding changes in every other, the rest less
#: often. Counters that one fitness rule uses are read together.
COUNTERS = (
    Counter(
        "the energy counter",
        "TotalEnergyConsumption",
        "Q",
        ("energy_j",),
        1e-3,
        every=1,
    ),
    Counter("utilization", "UtilizationRates", "II", ("gpu_busy", "memory_busy"), 0.01),
    Counter("clocks", "ClockInfo", "I", ("sm_mhz",), constants=_SM),
    Counter("clocks", "ClockInfo", "I", ("memory_mhz",), constants=_MEM),
    Counter(
        "the reasons of lowered clocks",
        # Every driver has the older name.
        "CurrentClocksThrottleReasons",
        "Q",
        ("reasons",),
    ),
    Counter("power", "PowerUsage", "I", ("power_w",), 1e-3, phase=1),
    Counter(
        "memory in use",
        "MemoryInfo",
        "QQQ",
        (None, "memory_free", "memory_used"),
        phase=1,
        of_slice=True,
    ),
    Counter(
        "temperature",
        "Temperature",
        "I",
        ("temperature_c",),
        constants=_GPU_SENSOR,
        every=5,
        phase=4,
    ),
    Counter("the PCIe link", "CurrPcieLinkGeneration", "I", ("pcie_generation",), every=20),
    Counter("the PCIe link", "CurrPcieLinkWidth", "I", ("pcie_width",), every=20),
    *(
        Counter(
            "ECC errors",
            "TotalEccErrors",
            "Q",
            (field,),
            constants=kind,
            every=20,
            phase=10,
            expected=False,
        )
        for field, kind in (("ecc_corrected", _CORRECTED), ("ecc_uncorrected", _UNCORRECTED))
    ),
)
#: Label of the process lists in a sentence.
PROCESSES = "processes"
#: The process lists are read in samples that also read the memory in use.
_PROCESSES_EVERY, _PROCESSES_PHASE = 10, 1
#: nvmlProcessInfo_t since version 2 of its functions: pid, bytes, and the MIG instances.
_PROCESS = struct.Struct("IxxxxQII")
#: Number of samples after which the schedule repeats.
_PERIOD = 20


class _Call:
    """The NVML call of one counter on one device, with a buffer for the answer."""

    def __init__(self, counter: Counter, function: Any, handle: Any) -> None:
        self.counter = counter
        self.layout = struct.Struct(counter.answer)
        self.buffer = ctypes.create_string_buffer(self.layout.size)
        self.function = function
        self.arguments = (handle, *counter.constants, self.buffer)

    def put(self, answer: bytes, reading: CounterReading) -> None:
        """Decode an answer into a reading."""
        scale = self.counter.scale
        for field, value in zip(self.counter.fields, self.layout.unpack(answer), strict=True):
            if field is not None:
                setattr(reading, field, value if scale is None else value * scale)


class _List:
    """The call that lists the processes of one kind on one device."""

    def __init__(self, function: Any, handle: Any) -> None:
        self.function = function
        self.count = ctypes.c_uint()
        self._handle = handle
        self._hold(64)

    def _hold(self, room: int) -> None:
        self.room = room
        self.buffer = ctypes.create_string_buffer(_PROCESS.size * room)
        self.arguments = (self._handle, ctypes.byref(self.count), self.buffer)

    def ask(self, too_small: int) -> tuple[int, bytes]:
        """Return the driver's return code and the raw list of processes."""
        while True:
            self.count.value = self.room
            code = int(self.function(*self.arguments))
            if code != too_small:
                return code, self.buffer.raw[: _PROCESS.size * self.count.value]
            self._hold(2 * self.room)


@dataclass(frozen=True, slots=True)
class Answers:
    """One sample of one GPU: its time, its calls, and their raw answers."""

    t: float
    calls: Sequence[_Call]
    answered: Sequence[bytes | None]
    computing: bytes | None = None
    drawing: bytes | None = None

    def reading(self) -> CounterReading:
        """Decode the answers."""
        reading = CounterReading(self.t)
        for call, answer in zip(self.calls, self.answered, strict=True):
            if answer is not None:
                call.put(answer, reading)
        if self.computing is not None:
            computing, drawing = _held(self.computing), _held(self.drawing or b"")
            reading.processes = {**drawing, **computing}
            reading.computing, reading.drawing = frozenset(computing), frozenset(drawing)
        return reading

    def pids(self) -> Iterator[int]:
        """Yield the pids of the processes on the GPU."""
        for listed in (self.computing, self.drawing):
            if listed:
                yield from (pid for pid, *_ in _PROCESS.iter_unpack(listed))


def _held(listed: bytes) -> dict[int, int | None]:
    return {
        pid: None if held == _NOT_AVAILABLE else held
        for pid, held, *_ in _PROCESS.iter_unpack(listed)
    }


class CounterReader:
    """Reader of the counters that one GPU has.

    Attributes:
        lacking: labels of the counters that card or driver do not have.
        denied: labels of the counters that this user may not read.
        lost: the card has fallen off the bus; nothing more is read.
    """

    def __init__(self, pynvml: Any, device: Device) -> None:
        self._pynvml = pynvml
        self.lacking: dict[str, None] = {}
        self.denied: dict[str, None] = {}
        self.lost = False
        self._failures: dict[str, int] = {}
        library = pynvml.nvmlLib
        self._lists = list(_lists(library, device.handle))
        if not self._lists:
            self.lacking[PROCESSES] = None
        self._calls: list[_Call] = []
        for counter in COUNTERS:
            function = getattr(library, f"nvmlDeviceGet{counter.function}", None)
            if function is None:
                self.lacking[counter.label] = None
            else:
                handle = device.handle if counter.of_slice else device.card
                self._calls.append(_Call(counter, function, handle))
        self._due = _schedule(self._calls)

    def read(self, tick: int, t: float) -> Answers | None:
        """Read the counters due in sample ``tick`` at time ``t``; None once the card is lost."""
        if self.lost:
            return None
        due = self._due[tick % _PERIOD] if tick else self._calls
        answers: list[bytes | None] = []
        failed: list[tuple[_Call, int]] = []
        for call in due:
            code = call.function(*call.arguments)
            answers.append(None if code else call.buffer.raw)
            if code:
                failed.append((call, code))
        listed: list[bytes] = []
        if self._lists and (tick % _PROCESSES_EVERY == _PROCESSES_PHASE or not tick):
            listed = self._list_processes()
        if failed:
            self._drop(failed)
        return None if self.lost else Answers(t, due, answers, *listed)

    def _drop(self, failed: Sequence[tuple[_Call, int]]) -> None:
        """Stop asking for counters that will never be answered."""
        gone = [call for call, code in failed if self._fails_for_good(call.counter.label, code)]
        if gone:
            self._calls = [call for call in self._calls if call not in gone]
            self._due = _schedule(self._calls)

    def _list_processes(self) -> list[bytes]:
        listed = []
        for call in self._lists:
            code, processes = call.ask(self._pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
            if not code:
                listed.append(processes)
            elif not listed:
                # A list without the drawing processes, which matter less, is still useful.
                if self._fails_for_good(PROCESSES, code):
                    self._lists = []
                break
        return listed

    def _fails_for_good(self, label: str, code: int) -> bool:
        """Count a failure; return whether the counter will never be answered."""
        pynvml = self._pynvml
        self._failures[label] = self._failures.get(label, 0) + 1
        if code in (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED):
            self.lost = True
        elif code == pynvml.NVML_ERROR_NO_PERMISSION:
            self.denied[label] = None
            return True
        elif code == pynvml.NVML_ERROR_NOT_SUPPORTED or self._failures[label] >= _GIVE_UP:
            self.lacking[label] = None
            return True
        return False


def _lists(library: Any, handle: Any) -> Iterator[_List]:
    for kind in ("Compute", "Graphics"):
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        # Drivers before 510 have only the older form, of the same layout.
        function = getattr(library, f"{name}_v3", None) or getattr(library, f"{name}_v2", None)
        if function is not None:
            yield _List(function, handle)


def _schedule(calls: Sequence[_Call]) -> list[list[_Call]]:
    """Return the calls of each sample of a period."""
    return [
        [call for call in calls if tick % call.counter.every == call.counter.phase]
        for tick in range(_PERIOD)
    ]
