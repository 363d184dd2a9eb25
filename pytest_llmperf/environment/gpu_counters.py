"""The counters of one GPU: which there are, and one reading of those that are due."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.environment.nvml import Device

#: NVML's "value not available" for a process's memory.
_NOT_AVAILABLE = 0xFFFF_FFFF_FFFF_FFFF
#: A counter that fails so often in a row is not asked again.
_GIVE_UP = 5


@dataclass(slots=True)
class Reading:
    """What one GPU said at one moment; None is not asked this time, or not told.

    Attributes:
        t: seconds on this process's ``time.perf_counter``.
        gpu_busy, memory_busy: share of the driver's last period (a sixth of a second to a
            second) with a kernel running, and with memory read or written.
        memory_used, memory_free: bytes, by everybody.
        processes: bytes (None where not told) by pid, of those that compute or draw there.
        computing, drawing: which of them compute, and which draw.
        power_w: what the card draws; averaged over a second by cards since Ampere.
        energy_j: since the driver was loaded.
        sm_mhz, memory_mhz: the clocks now.
        reasons: NVML's clock event reasons, as bits.
        temperature_c: of the GPU.
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


_Read = Callable[[Any, Any, Reading], None]


@dataclass(frozen=True)
class Counter:
    """One question to NVML.

    Attributes:
        label: what a sentence calls it.
        every: asked in every so-manieth sample; what is slow to change, or to answer, less often.
        read: puts the answer into a reading.
        of_slice: asked of the MIG slice; what only the card has is asked of the card.
        expected: worth a remark where a card does not have it.
    """

    label: str
    every: int
    read: _Read
    of_slice: bool = False
    expected: bool = True


def _load(pynvml: Any, handle: Any, reading: Reading) -> None:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    reading.gpu_busy, reading.memory_busy = rates.gpu / 100, rates.memory / 100


def _memory(pynvml: Any, handle: Any, reading: Reading) -> None:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    reading.memory_used, reading.memory_free = int(memory.used), int(memory.free)


def _power(pynvml: Any, handle: Any, reading: Reading) -> None:
    reading.power_w = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000


def _energy(pynvml: Any, handle: Any, reading: Reading) -> None:
    reading.energy_j = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


def _clocks(pynvml: Any, handle: Any, reading: Reading) -> None:
    reading.sm_mhz = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
    reading.memory_mhz = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)


def _reasons(pynvml: Any, handle: Any, reading: Reading) -> None:
    # The older name is the one that every driver and binding has.
    reading.reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)


def _temperature(pynvml: Any, handle: Any, reading: Reading) -> None:
    reading.temperature_c = pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)


def _link(pynvml: Any, handle: Any, reading: Reading) -> None:
    reading.pcie_generation = pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)
    reading.pcie_width = pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle)


def _ecc(pynvml: Any, handle: Any, reading: Reading) -> None:
    ask, volatile = pynvml.nvmlDeviceGetTotalEccErrors, pynvml.NVML_VOLATILE_ECC
    reading.ecc_corrected = ask(handle, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, volatile)
    reading.ecc_uncorrected = ask(handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, volatile)


def _processes(pynvml: Any, handle: Any, reading: Reading) -> None:
    computing = _running(pynvml, "Compute", handle)
    try:
        # A Vulkan engine may be listed here only.
        drawing = _running(pynvml, "Graphics", handle)
    except pynvml.NVMLError:
        drawing = {}
    reading.processes = {**drawing, **computing}
    reading.computing, reading.drawing = frozenset(computing), frozenset(drawing)


def _running(pynvml: Any, kind: str, handle: Any) -> dict[int, int | None]:
    newest = getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses_v3")
    try:
        found = newest(handle)
    except pynvml.NVMLError as error:
        # Drivers before 470 have only the older form.
        older = getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses_v2", None)
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND or older is None:
            raise
        found = older(handle)
    return {
        int(one.pid): None
        if one.usedGpuMemory in (None, _NOT_AVAILABLE)
        else int(one.usedGpuMemory)
        for one in found
    }


#: At 20 Hz: what decode moves in every sample, what others do 4 times a second, and what
#: hardly changes once.
COUNTERS = (
    Counter("utilization", 1, _load),
    Counter("memory in use", 1, _memory, of_slice=True),
    Counter("power", 1, _power),
    Counter("the energy counter", 1, _energy),
    Counter("clocks", 1, _clocks),
    Counter("the reasons of lowered clocks", 1, _reasons),
    Counter("processes", 5, _processes, of_slice=True),
    Counter("temperature", 5, _temperature),
    Counter("the PCIe link", 20, _link),
    Counter("ECC errors", 20, _ecc, expected=False),
)


class CounterReader:
    """Reads one GPU's counters, asking only for those it has.

    Attributes:
        lacking: labels of the counters that card or driver do not have.
        denied: labels of those that this user may not see.
        lost: the card has fallen off the bus; it is not asked again.
    """

    def __init__(self, pynvml: Any, device: Device) -> None:
        self._pynvml = pynvml
        self.lacking: list[str] = []
        self.denied: list[str] = []
        self.lost = False
        self._failures: dict[str, int] = {}
        self._due: list[tuple[Counter, Any]] = [
            (counter, device.handle if counter.of_slice else device.card) for counter in COUNTERS
        ]

    def read(self, tick: int, t: float) -> Reading | None:
        """Read what is due in sample number ``tick`` at time ``t``; None once the card is lost."""
        if self.lost:
            return None
        reading, failed = Reading(t), []
        for counter, handle in self._due:
            if tick % counter.every:
                continue
            try:
                counter.read(self._pynvml, handle, reading)
                if self._failures:
                    self._failures.pop(counter.label, None)
            except self._pynvml.NVMLError as error:
                if error.value == self._pynvml.NVML_ERROR_GPU_IS_LOST:
                    self.lost = True
                    return None
                failed.append((counter, error.value))
        for counter, code in failed:
            self._note(counter, code)
        return reading

    def _note(self, counter: Counter, code: int) -> None:
        """Stop asking for what will never be answered."""
        pynvml, label = self._pynvml, counter.label
        self._failures[label] = self._failures.get(label, 0) + 1
        if code == pynvml.NVML_ERROR_NO_PERMISSION:
            self.denied.append(label)
        elif (
            code in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            or self._failures[label] >= _GIVE_UP
        ):
            self.lacking.append(label)
        else:
            return
        self._due = [(one, handle) for one, handle in self._due if one is not counter]
