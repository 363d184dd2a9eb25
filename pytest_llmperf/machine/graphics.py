"""Graphics cards that the kernel lists, without a vendor's library.

A card counts if a program could compute faster on it than on the CPU: NVIDIA's, and AMD's with
dedicated memory. Integrated graphics share the CPU's memory, which limits decoding, and the
displays of virtual machines and servers compute nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_llmperf.gpu_builds import VISIBLE_DEVICES
from pytest_llmperf.kernel_files import read_number, read_text

Vendor = Literal["nvidia", "amd"]

_ROOT = Path("/")
_AMD, _NVIDIA = "0x1002", "0x10de"
#: Minimum memory of a card: integrated AMD graphics take some hundred MiB of system memory.
_OWN_MEMORY = 2 << 30
_HIDES = frozenset({"", "-1", "none", "void", "NoDevFiles"})


@dataclass(frozen=True)
class GraphicsCard:
    """A graphics card listed by the kernel.

    Attributes:
        vendor: its maker.
        name: its name for readers.
        seen: the file by which it was found, such as ``/dev/nvidia0``.
    """

    vendor: Vendor
    name: str
    seen: str


def graphics_cards(root: Path = _ROOT) -> tuple[GraphicsCard, ...]:
    """Return the cards the kernel lists (Linux; () elsewhere).

    Args:
        root: where ``dev``, ``sys/class/drm`` and ``proc/driver/nvidia`` are looked up.
    """
    cards = [*_nvidia(root), *_amd(root)]
    return tuple(cards)


def hidden_by(environ: Mapping[str, str], backend: str) -> str | None:
    """Return the variable that hides every GPU from an engine, such as ``CUDA_VISIBLE_DEVICES``.

    ``backend`` is the engine's; ``cpu`` uses no such variable, so any of them counts.
    """
    all_names = tuple(name for names in VISIBLE_DEVICES.values() for name in names)
    for name in all_names if backend == "cpu" else VISIBLE_DEVICES.get(backend, ()):
        value = environ.get(name)
        if value is not None and value.strip().split(",")[0].strip() in _HIDES:
            return name
    return None


def _nvidia(root: Path) -> Iterator[GraphicsCard]:
    numbered = [
        node.name for node in _listed(root / "dev") if re.fullmatch(r"nvidia\d+", node.name)
    ]
    names = [
        match[1].strip()
        for folder in _listed(root / "proc" / "driver" / "nvidia" / "gpus")
        if (match := re.search(r"^Model:\s*(.+)$", read_text(folder / "information"), re.MULTILINE))
    ]
    for number, node in enumerate(numbered):
        name = names[number] if number < len(names) else "NVIDIA GPU"
        yield GraphicsCard("nvidia", name, f"/dev/{node}")
    if not numbered:
        # The card is present, but its driver is not loaded.
        for card in _render_nodes(root, _NVIDIA):
            yield GraphicsCard("nvidia", "NVIDIA GPU", f"/dev/dri/{card.name}")


def _amd(root: Path) -> Iterator[GraphicsCard]:
    for node in _render_nodes(root, _AMD):
        memory = read_number(node / "device" / "mem_info_vram_total")
        if memory is not None and memory >= _OWN_MEMORY:
            name = read_text(node / "device" / "product_name").strip() or "AMD GPU"
            yield GraphicsCard("amd", name, f"/dev/dri/{node.name}")


def _render_nodes(root: Path, vendor: str) -> list[Path]:
    return [
        node
        for node in _listed(root / "sys" / "class" / "drm")
        if node.name.startswith("renderD")
        and read_text(node / "device" / "vendor").strip() == vendor
    ]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
