"""NVML sessions: opening them, choosing devices as CUDA does, optional queries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")


class NvmlUnavailableError(Exception):
    """NVML cannot be used; str() is the reason, empty without an NVIDIA driver."""


def open_nvml() -> Any:
    """Return the initialised binding; ``close_nvml`` ends the session.

    Raises:
        NvmlUnavailableError: there is no driver, or it does not work.
    """
    try:
        import pynvml
    except ImportError:
        raise NvmlUnavailableError("") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlUnavailableError(_init_problem(pynvml, error)) from None
    return pynvml


def close_nvml(pynvml: Any) -> None:
    """End a session; NVML counts sessions, so others go on."""
    ask(pynvml, pynvml.nvmlShutdown)


@contextmanager
def nvml() -> Iterator[Any]:
    """Yield the initialised binding; end the session afterwards.

    Raises:
        NvmlUnavailableError: as ``open_nvml``.
    """
    pynvml = open_nvml()
    try:
        yield pynvml
    finally:
        close_nvml(pynvml)


def _init_problem(pynvml: Any, error: Any) -> str:
    if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return ""
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return (
            "the NVIDIA library and the loaded kernel driver have different versions "
            "(the driver was updated without a restart); restart the machine"
        )
    if error.value == pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return (
            "the NVIDIA library is installed but its kernel driver is not loaded; "
            "load it (modprobe nvidia) or give this container access to the GPU"
        )
    return f"the NVIDIA driver does not answer: {error}"


def ask(pynvml: Any, function: Callable[..., _T], *args: Any) -> _T | None:
    """Call one NVML function; return None if the card, driver or permissions do not allow it."""
    try:
        return function(*args)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


@dataclass(frozen=True)
class Device:
    """A GPU this process may use.

    Attributes:
        handle: NVML handle of the card, or of the used MIG slice.
        card: NVML handle of the physical card.
        index: NVML's number of the card.
    """

    handle: Any
    card: Any
    index: int

    @property
    def is_slice(self) -> bool:
        """Whether only a MIG slice of the card is used."""
        return self.handle is not self.card


def _select(
    devices: Sequence[tuple[Any, str | None]], migs: Mapping[str, Any], visible: str | None
) -> tuple[list[Any], str | None]:
    """Apply CUDA_VISIBLE_DEVICES as CUDA does; return the handles and a problem or None.

    CUDA takes indices, UUIDs and unambiguous UUID prefixes, and stops at the
    first entry that names nothing (CUDA C++ Programming Guide, "CUDA
    Environment Variables").
    """
    if visible is None:
        return [handle for handle, _ in devices], None
    chosen: list[Any] = []
    seen: set[str] = set()
    for entry in (part.strip() for part in visible.split(",")):
        uuids = [uuid for _, uuid in devices if uuid and uuid.startswith(entry)]
        if re.fullmatch(r"\d+", entry) and int(entry) < len(devices):
            name = str(int(entry))
            handle = devices[int(entry)][0]
        elif entry.startswith("GPU-") and len(uuids) == 1:
            index = [uuid for _, uuid in devices].index(uuids[0])
            name, handle = str(index), devices[index][0]
        elif entry in migs:
            name, handle = entry, migs[entry]
        else:
            hides = not visible.strip() or entry in {"-1", "NoDevFiles", "void", "none"}
            problem = f"CUDA_VISIBLE_DEVICES names no GPU of this machine: {entry!r}"
            return chosen, None if hides else problem
        if name in seen:
            return chosen, f"CUDA_VISIBLE_DEVICES names the same GPU twice: {entry!r}"
        seen.add(name)
        chosen.append(handle)
    return chosen, None


def devices(pynvml: Any, environ: Mapping[str, str]) -> tuple[list[Device], str | None]:
    """Return every GPU that a CUDA process of this environment may use, and a problem or None."""
    problem: str | None = None
    cards: list[tuple[Any, str | None]] = []
    slices: dict[str, Any] = {}
    known: dict[int, Device] = {}
    for index in range(ask(pynvml, pynvml.nvmlDeviceGetCount) or 0):
        try:
            card = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            problem = f"GPU {index} does not answer: {error}"
            continue
        default = card
        known[id(card)] = Device(card, card, index)
        for number, (mig, uuid) in enumerate(_mig_slices(pynvml, card)):
            known[id(mig)] = Device(mig, card, index)
            slices[uuid] = mig
            # A CUDA process uses one slice of a partitioned card: the first
            # unless CUDA_VISIBLE_DEVICES says otherwise.
            default = mig if number == 0 else default
        cards.append((default, ask(pynvml, pynvml.nvmlDeviceGetUUID, card)))
    chosen, refused = _select(cards, slices, environ.get("CUDA_VISIBLE_DEVICES"))
    return [known[id(handle)] for handle in chosen], problem or refused


def _mig_slices(pynvml: Any, device: Any) -> Iterator[tuple[Any, str]]:
    mode = ask(pynvml, pynvml.nvmlDeviceGetMigMode, device)
    if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return
    for index in range(ask(pynvml, pynvml.nvmlDeviceGetMaxMigDeviceCount, device) or 0):
        mig = ask(pynvml, pynvml.nvmlDeviceGetMigDeviceHandleByIndex, device, index)
        uuid = mig and ask(pynvml, pynvml.nvmlDeviceGetUUID, mig)
        if mig and uuid:
            yield mig, uuid


def mig_profile(pynvml: Any, mig: Any, name: str) -> str:
    """Return the slice's profile: from its name (driver >= 470), else from its attributes."""
    in_name = re.search(r"\bMIG (\S+)$", name)
    if in_name:
        return in_name.group(1)
    attributes = ask(pynvml, pynvml.nvmlDeviceGetAttributes, mig)
    if attributes is None:
        return "unknown"
    compute, slices = attributes.computeInstanceSliceCount, attributes.gpuInstanceSliceCount
    part = f"{compute}c." if compute < slices else ""
    return f"{part}{slices}g.{round(attributes.memorySizeMB / 1024)}gb"
