"""Cards that an engine uses exclusively, so that sessions on other cards need not wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_llmperf.engine_kinds import UNKNOWN_BACKEND
from pytest_llmperf.machine.gpu.nvml import NvmlUnavailableError, ask, devices, nvml

_ALL_LAYERS = -1


def claimed_cards(
    backend: str, llm: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str, ...] | None:
    """Return names of the cards that an engine will use, the same in every session.

    They are the UUIDs of whole cards (slices of one card share its power and its memory), or,
    without NVML, the numbers in CUDA_VISIBLE_DEVICES. None if the engine may compute on the
    CPU, too, or if its cards are uncertain.

    Args:
        backend: the engine's backend, or UNKNOWN_BACKEND.
        llm: the resolved ``llm`` section of the configuration.
        environ: environment of the engine's process.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if backend == UNKNOWN_BACKEND:
        # An application with visible cards is assumed to compute on them.
        if visible is None:
            return None
    elif backend != "cuda" or llm.get("n_gpu_layers", _ALL_LAYERS) != _ALL_LAYERS:
        return None
    try:
        cards, is_order_known = _by_nvml(environ)
    except NvmlUnavailableError:
        numbers = [part.strip() for part in (visible or "").split(",")]
        if not all(re.fullmatch(r"\d+", number) for number in numbers):
            return None
        cards, is_order_known = [f"number-{int(number)}" for number in numbers], True
    if backend != UNKNOWN_BACKEND and llm.get("split_mode") == "none" and is_order_known:
        cards = cards[llm["main_gpu"] :][:1]
    return tuple(dict.fromkeys(cards)) or None


def _by_nvml(environ: Mapping[str, str]) -> tuple[list[str], bool]:
    """Return the UUIDs of the visible cards, and whether CUDA numbers them in this order.

    Empty if CUDA may number the cards differently from NVML, or one has no UUID. CUDA puts
    the fastest first unless CUDA_DEVICE_ORDER is PCI_BUS_ID, so only cards of one model
    have one order.

    Raises:
        NvmlUnavailableError: there is no NVIDIA driver, or it does not answer.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    with nvml() as pynvml:
        usable, problem = devices(pynvml, environ)
        present, _ = devices(pynvml, {})
        models = {ask(pynvml, pynvml.nvmlDeviceGetName, device.card) for device in present}
        uuids = [ask(pynvml, pynvml.nvmlDeviceGetUUID, device.card) for device in usable]
    same_order = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len(models) == 1
    by_number = visible is not None and re.search(r"(^|,)\s*\d+\s*(,|$)", visible) is not None
    if problem or (by_number and not same_order) or not all(uuids):
        return [], False
    return [uuid for uuid in uuids if uuid], same_order or visible is not None
