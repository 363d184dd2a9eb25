"""Fitness checks of the GPUs: rules that turn their readings into findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pytest_llmperf.fitness_checks import Severity
from pytest_llmperf.machine.fitness import FitnessFinding, size, worst_first
from pytest_llmperf.machine.gpu.counters import CounterReading
from pytest_llmperf.machine.gpu.metrics import ProcessOwners, is_unknown, used_by_engine
from pytest_llmperf.machine.gpu.processes import GpuProcess
from pytest_llmperf.machine.gpu.telemetry import Track
from pytest_llmperf.machine.gpu.windows import Span, while_decoding

#: NVML's clock event reasons that slow a card down. Source: nvml.h, nvmlClocksEventReason*;
#: idle, application clocks, sync boost and display are left out: they are no slowdowns.
POWER_CAP, AT_POWER_LIMIT = 0x04, "at its power limit"
THROTTLE_REASONS = {
    0x08: "hardware slowdown (heat or power supply)",
    0x20: "too hot (software thermal slowdown)",
    0x40: "too hot (hardware thermal slowdown)",
    0x80: "power brake (external power supply)",
}
#: Share of the samples while decoding from which throttling makes a measurement invalid.
THROTTLED_INVALID_SHARE = 0.05
#: Share of time with a kernel running from which a card counts as under load.
UNDER_LOAD = 0.3
#: Shares of the highest clock below which a clock is too low. Boost clocks stay well below the
#: highest one, and some cards lower the memory clock by one step while computing.
SM_LOW, MEMORY_LOW = 0.6, 0.8
#: Relative change of a clock within one process that is reported as drift.
DRIFT = 0.10
#: Minimum number of samples of a clock at either end of a process.
_SAMPLES = 5
HOT_C = 5
#: Free memory below the smaller of the two is too little: share of the total, and bytes.
LITTLE_SHARE, LITTLE_BYTES = 0.02, 512 << 20
#: Allowed growth of other processes' memory, bytes.
OTHERS_BYTES = 256 << 20


@dataclass(frozen=True)
class _Card:
    """One GPU, its readings while decoding, and whether the engine uses it."""

    track: Track
    decoding: Sequence[CounterReading]
    used: bool

    @property
    def name(self) -> str:
        return self.track.facts.label

    @property
    def loaded(self) -> list[CounterReading]:
        """Readings while decoding with the card under load; those of unknown load count, too."""
        return [r for r in self.decoding if r.gpu_busy is None or r.gpu_busy >= UNDER_LOAD]


def judge_gpus(
    tracks: Sequence[Track], owners: ProcessOwners, spans: Sequence[Span], engines: int = 1
) -> list[FitnessFinding]:
    """Return the findings about the GPUs an engine may use, worst first.

    ``spans``: the generations counted so far; rules about speed use only these. Cards that the
    engine does not use are skipped; where that is unknown, other processes are still reported.
    ``engines``: number of this session's live engines, two if a pair takes turns.
    """
    used_ids = {id(track) for track in used_by_engine(tracks, owners)}
    # In a container, the driver may list the session's own engines under the host's pids.
    own_is_listed = any(
        owners[pid].session
        for track in tracks
        for reading in track.readings
        for pid in (reading.processes or ())
    )
    findings: list[FitnessFinding] = []
    for track in tracks:
        decoding = while_decoding(track.readings, spans)
        card = _Card(track, decoding, id(track) in used_ids)
        if card.used or (not used_ids and is_unknown(track, owners)):
            findings += _other_processes(card, owners, own_engines=0 if own_is_listed else engines)
        if track.lost_at is not None or card.used:
            findings += _broken(card)
        if card.used:
            for rule in (_throttled, _clocks, _hot, _memory, _link, _persistence):
                findings += rule(card)
            findings += _others_memory_growth(card, owners)
    return worst_first(findings)


def judge_at_rest(
    tracks: Sequence[Track], owners: ProcessOwners, engines: int = 0
) -> list[FitnessFinding]:
    """Return findings while no engine generates: other processes, throttling, errors of the card.

    ``engines``: number of this session's engines that are already running.
    """
    findings: list[FitnessFinding] = []
    for track in tracks:
        card = _Card(track, track.readings, used=True)
        findings += [
            *_other_processes(card, owners, own_engines=engines),
            *_broken(card),
            *_throttled(card),
        ]
    return worst_first(findings)


def _finding(
    name: str, severity: Severity, text: str, card: _Card, **evidence: Any
) -> FitnessFinding:
    return FitnessFinding(name, severity, text, {"gpu": card.track.facts.index, **evidence})


def _throttled(card: _Card) -> Iterator[FitnessFinding]:
    reasons = [r.reasons for r in card.decoding if r.reasons is not None]
    for bit, why in ({POWER_CAP: AT_POWER_LIMIT} | THROTTLE_REASONS).items():
        count = sum(bool(bits & bit) for bits in reasons)
        if not count:
            continue
        share = count / len(reasons)
        evidence: dict[str, Any] = {"reason": why, "samples": count, "of": len(reasons)}
        seen = f"in {count} of {len(reasons)} samples while decoding"
        if bit == POWER_CAP:
            # Not throttling: many cards decode at their power limit all the time.
            limit = card.track.facts.power_limit_enforced_w or card.track.facts.power_limit_w
            of = f" of {limit:.0f} W" if limit else ""
            text = f"the {card.name} lowered its clocks at its power limit{of} {seen}"
            default = card.track.facts.power_limit_default_w
            evidence |= {"limit_w": limit, "default_w": default}
            yield _finding("gpu_power_cap", "note", text, card, **evidence)
        else:
            invalid = share >= THROTTLED_INVALID_SHARE
            text = f"the {card.name} lowered its clocks {seen}: {why}{_heat(card)}"
            yield _finding(
                "gpu_throttled", "invalid" if invalid else "warn", text, card, **evidence
            )


def _heat(card: _Card) -> str:
    hottest = _hottest(card)
    return f", at {hottest} °C" if hottest is not None else ""


def _hottest(card: _Card) -> int | None:
    temperatures = [r.temperature_c for r in card.decoding if r.temperature_c is not None]
    return max(temperatures, default=None)


def _clocks(card: _Card) -> Iterator[FitnessFinding]:
    facts = card.track.facts
    # Low clocks for which the driver gives a reason are reported by ``_throttled``.
    unexplained = [r for r in card.loaded if not (r.reasons or 0) & _ANY_REASON]
    for kind, field, highest, lowest_share in (
        ("SM", "sm_mhz", facts.sm_clock_max_mhz, SM_LOW),
        ("memory", "memory_mhz", facts.memory_clock_max_mhz, MEMORY_LOW),
    ):
        clocks = [mhz for r in unexplained if (mhz := getattr(r, field)) is not None]
        if len(clocks) < 2 * _SAMPLES:
            continue
        typical = median(clocks)
        if highest and typical < lowest_share * highest:
            yield _finding(
                "gpu_clocks_low",
                "warn",
                f"the {card.name} decoded at a {kind} clock of {typical:.0f} MHz, "
                f"{typical / highest:.0%} of its highest ({highest} MHz), and the driver gives no "
                "reason",
                card,
                clock=kind,
                mhz=typical,
                highest_mhz=highest,
            )
        part = max(_SAMPLES, len(clocks) // 3)
        first, last = median(clocks[:part]), median(clocks[-part:])
        if abs(last - first) > DRIFT * first:
            yield _finding(
                "gpu_clock_drift",
                "warn",
                f"the {kind} clock of the {card.name} went from {first:.0f} to {last:.0f} MHz "
                "within one process, and the driver gives no reason",
                card,
                clock=kind,
                first_mhz=first,
                last_mhz=last,
            )


_ANY_REASON = POWER_CAP | sum(THROTTLE_REASONS)


def _hot(card: _Card) -> Iterator[FitnessFinding]:
    limit, hottest = card.track.facts.slowdown_c, _hottest(card)
    if limit and hottest is not None and hottest > limit - HOT_C:
        yield _finding(
            "gpu_hot",
            "warn",
            f"the {card.name} reached {hottest} °C while decoding; it slows down at {limit} °C",
            card,
            temperature_c=hottest,
            slowdown_c=limit,
        )


def _memory(card: _Card) -> Iterator[FitnessFinding]:
    total = card.track.facts.memory_bytes
    free = [r.memory_free for r in card.decoding if r.memory_free is not None]
    if total and free and min(free) < min(LITTLE_SHARE * total, LITTLE_BYTES):
        yield _finding(
            "gpu_memory_pressure",
            "warn",
            f"the {card.name} had {size(min(free))} of {size(total)} free while decoding: "
            "what does not fit is moved to slower memory, or refused",
            card,
            free_bytes=min(free),
            total_bytes=total,
        )


def _others_memory_growth(card: _Card, owners: ProcessOwners) -> Iterator[FitnessFinding]:
    others: list[int] = []
    for r in card.track.readings:
        own = [(r.processes or {})[pid] for pid in r.processes or () if owners[pid].session]
        if own and None not in own and r.memory_used is not None:
            others.append(r.memory_used - sum(own))  # type: ignore[arg-type]
    if others and others[-1] - others[0] > OTHERS_BYTES:
        yield _finding(
            "gpu_others_grew",
            "warn",
            f"other processes' memory on the {card.name} grew from "
            f"{size(max(0, others[0]))} to {size(others[-1])} while measuring",
            card,
            first_bytes=others[0],
            last_bytes=others[-1],
        )


def _link(card: _Card) -> Iterator[FitnessFinding]:
    facts = card.track.facts
    widths = [r.pcie_width for r in card.track.readings if r.pcie_width is not None]
    # An idle card lowers its link's generation by design, but never its width.
    speeds = [r.pcie_generation for r in card.loaded if r.pcie_generation is not None]
    width, generation = max(widths, default=None), max(speeds, default=None)
    slower = bool(generation and facts.pcie_generation_max) and (
        (generation or 0) < (facts.pcie_generation_max or 0)
    )
    narrower = bool(width and facts.pcie_width_max) and (width or 0) < (facts.pcie_width_max or 0)
    if not slower and not narrower:
        return
    now = " ".join([f"gen{generation}"] * bool(generation) + [f"x{width}"] * bool(width))
    possible = f"gen{facts.pcie_generation_max} x{facts.pcie_width_max}"
    yield _finding(
        "gpu_pcie",
        "warn",
        f"the {card.name} runs at PCIe {now}, but card and slot support {possible}: loading is "
        "slower, and so are layers split over devices (check its seating, the riser and lanes "
        "shared with another slot)",
        card,
        generation=generation,
        width=width,
        generation_max=facts.pcie_generation_max,
        width_max=facts.pcie_width_max,
    )


def _broken(card: _Card) -> Iterator[FitnessFinding]:
    track = card.track
    if track.lost_at is not None:
        yield _finding(
            "gpu_lost",
            "invalid",
            f"the {card.name} stopped answering while measuring: it has fallen off the bus or "
            "its driver was reset",
            card,
        )
    for _, code in track.xids[:1]:
        codes = sorted({code for _, code in track.xids})
        yield _finding(
            "gpu_xid",
            "invalid",
            f"the driver reported an error of the {card.name} while measuring: "
            f"Xid {', '.join(map(str, codes))}",
            card,
            xids=codes,
        )
    counts = [r.ecc_uncorrected for r in track.readings if r.ecc_uncorrected is not None]
    if not counts or not counts[-1]:
        return
    grown = counts[-1] - counts[0]
    yield _finding(
        "gpu_ecc",
        "invalid" if grown else "warn",
        f"the memory of the {card.name} had {counts[-1]} uncorrected ECC errors since its driver "
        + (f"was loaded, {grown} of them while measuring" if grown else "was loaded"),
        card,
        uncorrected=counts[-1],
        while_measuring=grown,
    )


def _persistence(card: _Card) -> Iterator[FitnessFinding]:
    if card.track.facts.persistence is False:
        yield _finding(
            "gpu_persistence",
            "note",
            f"persistence mode of the {card.name} is off: every process waits for the card to be "
            "initialised, and its clocks start from idle (nvidia-smi -pm 1)",
            card,
        )


def _other_processes(
    card: _Card, owners: ProcessOwners, *, own_engines: int
) -> Iterator[FitnessFinding]:
    held: dict[int, int | None] = {}
    drawing: set[int] = set()
    hidden_at_once: set[int] = set()
    for reading in card.track.readings:
        strangers = {pid for pid in reading.computing if not owners[pid].session}
        hidden = {pid for pid in strangers if not owners[pid].visible}
        # The most at one time, not the union over time, which may be this session's engines one
        # after the other, under the host's pids.
        hidden_at_once = max(hidden_at_once, hidden, key=len)
        drawing |= strangers & reading.drawing
        for pid in strangers:
            held[pid] = (reading.processes or {}).get(pid) or held.get(pid)
    for pid in sorted(held):
        process = owners[pid]
        if process.visible:
            draws = pid in drawing
            yield _finding(
                "busy_gpu",
                # Most workstations have a desktop on the card, which uses little.
                "note" if draws else "invalid",
                f"{_named(process, held[pid])} was on the {card.name} while measuring"
                + (" (it also draws: probably a desktop)" if draws else ""),
                card,
                pid=pid,
                program=process.name,
                bytes=held[pid],
            )
    if len(hidden_at_once) > own_engines:
        named = ", ".join(_named(owners[pid], held[pid]) for pid in sorted(hidden_at_once))
        yield _finding(
            "busy_gpu",
            "invalid",
            f"processes that are not visible from here (in another container, or already ended) "
            f"used the {card.name} while measuring: {named}",
            card,
            pids=sorted(hidden_at_once),
        )


def _named(process: GpuProcess, held: int | None) -> str:
    name = f" ({process.name})" if process.name else ""
    return f"process {process.pid}{name}{'' if held is None else f' with {size(held)}'}"
