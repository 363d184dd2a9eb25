"""Identity of the CPU: model, family, instruction sets, and a short readable name."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.kernel_files import read_text

#: Instruction sets that llama.cpp's kernels choose between; a hypervisor can hide any of them.
_DECISIVE = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
    "sve2", "sme",
)  # fmt: skip

#: Intel family 6 models (Linux arch/x86/include/asm/intel-family.h).
_INTEL = {
    45: "sandy-bridge", 62: "ivy-bridge", 63: "haswell", 79: "broadwell", 86: "broadwell",
    106: "ice-lake", 108: "ice-lake", 143: "sapphire-rapids", 207: "emerald-rapids",
    173: "granite-rapids", 174: "granite-rapids", 175: "sierra-forest",
}  # fmt: skip

#: ARM implementer and part numbers (Linux arch/arm64/include/asm/cputype.h).
_ARM = {
    ("0x41", "0xd08"): "cortex-a72", ("0x41", "0xd0b"): "cortex-a76",
    ("0x41", "0xd0c"): "neoverse-n1", ("0x41", "0xd40"): "neoverse-v1",
    ("0x41", "0xd49"): "neoverse-n2", ("0x41", "0xd4f"): "neoverse-v2",
    ("0xc0", "0xac3"): "ampere-one", ("0x46", "0x001"): "a64fx",
}  # fmt: skip

_NOISE = re.compile(
    r"\((?:r|tm|c)\)|®|™|\b\d+th gen\b|@.*$|\b(?:intel|cpu|processor)\b"
    r"|\b(?:\d+|dual|quad|six|eight|twelve|sixteen)-cores?\b|\b(?:with|w/) radeon.*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Cpu:
    """A CPU model and its features.

    Attributes:
        name: the model's name as the system gives it; may be generic on a virtual machine.
        family: ``6/143/8`` (family, model, stepping) or ``0x41/0xd0c/r3p1``; "" if unknown.
        vendor: as the system gives it; "" if unknown.
        instructions: its instruction sets that matter for speed, sorted.
        microcode: its version, or None.
    """

    name: str
    family: str = ""
    vendor: str = ""
    instructions: tuple[str, ...] = ()
    microcode: str | None = None


def parse_cpuinfo(text: str) -> Cpu:
    """Read the first processor of a Linux /proc/cpuinfo, of x86 or ARM."""
    first: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            first.setdefault(key.strip().lower(), value.strip())
    flags = set(first.get("flags", first.get("features", "")).split())
    family = "/".join(
        first[key] for key in ("cpu family", "model", "stepping") if first.get(key, "").isdigit()
    )
    implementer, part = first.get("cpu implementer"), first.get("cpu part")
    name = first.get("model name", "")
    if implementer and part:
        family = f"{implementer}/{part}/r{first.get('cpu variant', '0x0')[2:]}"
        family += f"p{first.get('cpu revision', '0')}"
        name = name or _ARM.get((implementer.lower(), part.lower()), f"ARM {implementer} {part}")
    return Cpu(
        name=" ".join(name.split()),
        family=family,
        vendor=first.get("vendor_id", implementer or ""),
        instructions=tuple(sorted(flags.intersection(_DECISIVE))),
        microcode=first.get("microcode"),
    )


def read_cpu() -> Cpu:
    """Describe this machine's CPU; unknown values stay empty."""
    system = platform.system()
    if system == "Linux":
        cpu = parse_cpuinfo(read_text(Path("/proc/cpuinfo")))
        return cpu if cpu.name else Cpu(platform.processor() or platform.machine())
    if system == "Darwin":
        brand = _sysctl("machdep.cpu.brand_string")
        keys = ("family", "model", "stepping")
        parts = [part for key in keys if (part := _sysctl(f"machdep.cpu.{key}"))]
        return Cpu(brand or platform.processor(), family="/".join(parts))
    return Cpu(platform.processor() or platform.machine())


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def short_name(cpu: Cpu) -> str:
    """Return the name without vendor noise, for a machine's key.

    A generic name (virtual machines hide the real one) is completed by the
    microarchitecture, or by family and model if that is unknown.
    """
    words = " ".join(_NOISE.sub(" ", cpu.name).split())
    generic = re.fullmatch(r"(?i)(?:(?:amd )?(?:xeon|epyc)(?: \(with ibpb\))?|amd|)", words)
    if not generic:
        return re.sub(r"(?i)^amd (?=ryzen|epyc|threadripper)", "", words)
    line = re.sub(r"(?i)amd | ?\(with ibpb\)", "", words)
    return f"{line} {microarchitecture(cpu)}".strip()


def microarchitecture(cpu: Cpu) -> str:
    """Name the x86 microarchitecture, else ``family6-model167``, else ``unknown-cpu``."""
    numbers = cpu.family.split("/")
    if len(numbers) < 2 or not all(number.isdigit() for number in numbers):
        return cpu.family or "unknown-cpu"
    family, model = int(numbers[0]), int(numbers[1])
    stepping = int(numbers[2]) if len(numbers) > 2 else 0
    known = None
    if cpu.vendor == "GenuineIntel" and family == 6:
        # One model number for three generations: only the stepping distinguishes them.
        known = _skylake(stepping) if model == 85 else _INTEL.get(model)
    elif cpu.vendor in {"AuthenticAMD", "HygonGenuine"}:
        known = _zen(family, model)
    return known or f"family{family}-model{model}"


def _skylake(stepping: int) -> str:
    if stepping >= 10:
        return "cooper-lake"
    return "cascade-lake" if stepping >= 5 else "skylake"


def _zen(family: int, model: int) -> str | None:
    """Name the Zen generation. Source: Linux arch/x86/kernel/cpu/amd.c, bsp_init_amd."""
    if family in (0x17, 0x18):
        return "zen2" if model >= 0x30 and model != 0x50 else "zen1"
    if family == 0x19:
        zen4 = 0x10 <= model <= 0x1F or 0x60 <= model <= 0xAF
        return "zen4" if zen4 else "zen3"
    return "zen5" if family == 0x1A else None


def clock_facts() -> Mapping[str, str]:
    """Return the frequency governor and the highest clock (Linux; empty if hidden)."""
    folder = Path("/sys/devices/system/cpu/cpu0/cpufreq")
    files = {"governor": "scaling_governor", "max clock kHz": "cpuinfo_max_freq"}
    return {
        item: text for item, file in files.items() if (text := read_text(folder / file).strip())
    }
