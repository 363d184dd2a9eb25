"""How large the HTML report of a large session is, and how long it takes to write and to open.

    python benchmarks/html_report.py [--tests 200] [--pairs 40] [--repeats 5] [--samples]
                                     [--keep FILE]

The report has six metrics per test, three iterations per process on two sides, timelines of 64
tokens, 30 earlier sessions of each metric, telemetry of a GPU and a roofline. Its numbers are
random, so that they compress no better than real ones; tests that got slower have causes and
findings. Writing starts from parsed JSON; the time from a file is printed beside it. Opening is
the time from the request to the first frame after the page's load event, in Debian's Chromium
(apt-get install chromium chromium-driver; pip install selenium) on the cores that this process may
use. Exit status 0 if the medians are within the limits, else 1; 2 without a browser.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from pytest_llmperf.gate.words import at_most, effect_words
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.report.html import write_html

LIMIT_MB = 1.0
WRITE_LIMIT_S = 3.0
OPEN_LIMIT_S = 2.0
_LEVELS = {
    "tokens_per_sec": 85.0,
    "prefill_tokens_per_sec": 301.0,
    "first_token": 0.41,
    "end_to_end": 1.84,
    "inter_token": 0.0118,
    "time_per_output_token": 0.0118,
}
_WORDS = ("short_answer", "summary", "long_prompt", "chat", "json_mode")
_TOKENS = 64
#: Number of GPU samples, as in a real report; level and spread of each counter.
_GPU_SAMPLES = 240
_GPU_LEVELS = {
    "power_w": (380.0, 20.0),
    "temperature_c": (64.0, 4.0),
    "sm_mhz": (2520.0, 60.0),
    "gpu_busy": (0.94, 0.02),
    "memory_used": (6e9, 1e7),
}
_SESSIONS = 30
_LOADED = """
const done = arguments[0];
const frame = (next) => requestAnimationFrame(next);
const ready = () => frame(() => frame(() => done(performance.now())));
document.readyState === "complete" ? ready() : addEventListener("load", ready);
"""


#: Differences, causes and findings of a test that got slower.
_CHANGED = ["llm.n_batch: base 1024, candidate 512", "package numpy: 2.3.4 → 2.3.5"]
_CAUSES = [
    {
        "title": "n_gpu_layers leaves layers on the CPU",
        "evidence": "n_gpu_layers: 12 leaves 19 of 31 layers on the CPU; all need about 204.9 MiB",
        "change": "n_gpu_layers: -1",
        "certain": True,
    },
    {
        "title": "flash attention is off",
        "evidence": "flash attention is off, with 12 of 31 layers on the GPU",
        "change": "flash_attn: true",
        "certain": False,
    },
]
_BUSY = {
    "name": "busy_cores",
    "severity": "warn",
    "text": "another process used 0.6 cores: stress (pid 4711)",
}


def large_report(tests: int = 200, pairs: int = 40, seed: int = 1) -> dict[str, Any]:
    """Return a report of ``tests`` tests with six metrics each, of random numbers, not judged."""
    rng = random.Random(seed)
    past = [
        {"recorded": f"2026-10-{day:02}T10:15:00Z", "commit": f"{day:040}", "dirty": False}
        for day in range(1, _SESSIONS + 1)
    ]
    session = {
        "machine": "1x-rtx-4090-24gib_cuda",
        "model": "SmolLM2-135M-Instruct Q4_1",
        "engine": "llama_cpp 0.3.36",
        "processes": 3,
        "iterations": 3,
        "seed": 7,
        "wall_s": 5400.0,
        "busy": [],
        "notes": [],
        "baselines": [],
        "recorded_to": None,
        "against": "main",
        "base_commit": "1a2b3c4d" * 5,
        "side_differences": [],
        "false_alarms": 0.01,
        "fitness": [],
        "gpus": [{"index": 0, "name": "NVIDIA GeForce RTX 4090"}],
        "measured_at": "2026-11-28T20:41:07Z",
        "command": None,
        "provenance": None,
        "model_file": None,
        "config": {},
        "machine_facts": {},
        "unit": "process",
        "fails": ["regressed"],
        "history": {"sessions": [{**entry, "file": "x.json"} for entry in past], "problem": None},
    }
    return {
        "schema": 1,
        "session": session,
        "counts": {"pass": 6 * tests},
        "tests": [_test(rng, number, pairs) for number in range(tests)],
        "unmeasured": [],
    }


def _test(rng: random.Random, number: int, pairs: int) -> dict[str, Any]:
    verdict = rng.choices(["pass", "regressed", "inconclusive"], [90, 5, 5])[0]
    metrics = [_metric(rng, name, level, pairs) for name, level in _LEVELS.items()]
    metrics[0]["verdict"] = verdict
    is_slow = verdict == "regressed"
    return {
        "nodeid": f"tests/perf/test_{number % 17}.py::test_{rng.choice(_WORDS)}[{number}]",
        "verdict": verdict,
        "workload": {"summary": "1 request, 38 tokens in, 64 out", "hash": f"{number:012x}"},
        "settings": {},
        "processes": pairs,
        "pairs": pairs,
        "earlier_pairs": 0,
        "against": "main",
        "findings": ["2 stalled iterations (over 1.25 times their process's median)"] * is_slow,
        "differences": ["llm.n_gpu_layers: base -1, candidate 12", *_CHANGED] * is_slow,
        "causes": ["llm.n_gpu_layers: base -1, candidate 12"] * is_slow,
        "diagnosis": _CAUSES * is_slow,
        "fitness": [_BUSY] * is_slow,
        "roofline": _roofline(rng),
        "telemetry": {"hz": 20.0, "gpus": [_gpu(rng, pairs)]},
        "metrics": metrics,
        "timelines": [_timeline(rng, picked) for picked in ("typical", "slowest")],
        "quality": None,
        "location": None,
        "load": None,
        "command": f"pytest -m perf --llmperf-against main tests/perf/test_{number % 17}.py",
        "doctor_command": "llmperf doctor --prompt-tokens 38 --max-tokens 64" if is_slow else None,
    }


def _gpu(rng: random.Random, processes: int) -> dict[str, Any]:
    series = {
        name: [round(rng.gauss(*level), 3) for _ in range(_GPU_SAMPLES)]
        for name, level in _GPU_LEVELS.items()
    }
    part = _GPU_SAMPLES // processes
    spreads = {
        name: {"mean": sum(values) / len(values), "min": min(values), "max": max(values)}
        for name, values in series.items()
    }
    return {
        "gpu": 0,
        "used": True,
        "samples": _GPU_SAMPLES,
        "counters": spreads,
        "lowered_clocks": {"at its power limit": 61} if rng.random() < 0.2 else {},
        "xids": [],
        "lost": False,
        "course": {
            "seconds": [round(i % part * 0.05 + rng.random() / 50, 2) for i in range(_GPU_SAMPLES)],
            "processes": [*range(0, _GPU_SAMPLES, part)],
            "counters": series,
        },
    }


def _roofline(rng: random.Random) -> dict[str, Any]:
    device = {
        "weight_bytes": 91e6,
        "cache_bytes": rng.uniform(1e6, 9e6),
        "bandwidth": 1.008e12,
        "how": "memory clock and bus width, NVML",
    }
    share = rng.uniform(0.5, 0.8)
    return {
        "share": share,
        "problem": None,
        "limit_tokens_per_sec": 85 / share,
        "devices": {"CUDA0": device},
    }


def _timeline(rng: random.Random, picked: str) -> dict[str, Any]:
    return {
        "side": "candidate",
        "picked": picked,
        "process": 3,
        "iteration": 1,
        "seconds": 1.84,
        "first_tokens": [0.41],
        "gaps": [rng.gauss(0.0118, 0.0003) for _ in range(_TOKENS - 1)],
        "gaps_per_value": 1,
        "requests": [0],
        "stalls": [],
    }


def _metric(rng: random.Random, name: str, level: float, pairs: int) -> dict[str, Any]:
    metric = get_metric(name)
    sides = [
        [[level * rng.gauss(1, 0.01) for _ in range(3)] for _ in range(pairs)] for _ in range(2)
    ]
    differences = [rng.gauss(0.002, 0.012) for _ in range(pairs)]
    looks, total = [], 0.0
    for count, difference in enumerate(differences, 1):
        total += difference
        half = 0.04 / count**0.5
        if count >= 4:
            looks.append([count, total / count, total / count - half, total / count + half])
    low, high = looks[-1][2:] if looks else (0.0, 0.0)
    claim = (
        f"{effect_words(metric, total / pairs, low, high)}, {at_most(high, metric)}; "
        f"evidence {rng.randint(20, 9000):,}:1"
    )
    explanation = (
        f"{claim}; 20:1 needed to pass, tolerance 5%, {pairs} pairs with merge-base (1a2b3c4d)"
    )
    base = level * rng.gauss(1, 0.003)
    return {
        "name": name,
        "label": metric.label,
        "unit": metric.unit.value,
        "direction": metric.direction.value,
        "gated": True,
        "limit": level * (0.8 if metric.direction.value == "higher" else 1.2),
        "tolerance": 0.05,
        "value": level,
        "low": level * 0.995,
        "high": level * rng.uniform(1.003, 1.006),
        "samples": sides[0],
        "base_samples": sides[1],
        "baseline": {
            "value": base,
            "low": base * 0.996,
            "high": base * 1.005,
            "sessions": 0,
            "sources": [],
        },
        "change": total / pairs,
        "verdict": "pass",
        "explanation": explanation,
        "claim": claim,
        "notes": [],
        "reasons": [{"verdict": "pass", "strategy": "interleaved", "text": explanation}],
        "progress": {"against": "base", "differences": differences, "looks": looks},
        "history": {
            "sessions": [*range(_SESSIONS)],
            "values": [level * rng.gauss(1, 0.015) for _ in range(_SESSIONS)],
            "changes": [],
        },
    }


def seconds(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def opening_times(page: Path, repeats: int) -> list[float] | None:
    """Open the page ``repeats`` times; return the seconds of each, or None without a browser."""
    if shutil.which("chromium") is None or (driver := shutil.which("chromedriver")) is None:
        return None
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, Service(driver))
    try:
        times = []
        for _ in range(repeats):
            browser.get("about:blank")
            browser.get(page.resolve().as_uri())
            times.append(browser.execute_async_script(_LOADED) / 1000)
        return times
    finally:
        browser.quit()


def main() -> int:
    """Measure, print, and compare with the limits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", action="store_true", help="keep raw samples in the page")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep the page")
    arguments = parser.parse_args()
    report = large_report(arguments.tests, arguments.pairs)
    with tempfile.TemporaryDirectory() as folder:
        page, stored = arguments.keep or Path(folder, "page.html"), Path(folder, "report.json")
        stored.write_text(json.dumps(report))
        written = [
            seconds(lambda: write_html(report, page, samples=arguments.samples))
            for _ in range(arguments.repeats)
        ]
        from_file = seconds(lambda: write_html(stored, page, samples=arguments.samples))
        size = page.stat().st_size / 1e6
        opened = opening_times(page, arguments.repeats)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{arguments.tests} tests x {len(_LEVELS)} metrics x {arguments.pairs} pairs, {cores} cores"
    )
    print(f"size      {size:6.2f} MB  (limit {LIMIT_MB:g} MB without raw samples)")
    first = f"the first {written[0]:.2f} s"
    print(f"written   {median(written):6.2f} s   (limit {WRITE_LIMIT_S:g} s; {first})")
    print(f"from JSON {from_file:6.2f} s")
    if opened is None:
        print("opened: not measured, Chromium is not installed", file=sys.stderr)
        return 2
    first = f"the first {opened[0]:.2f} s"
    print(f"opened    {median(opened):6.2f} s   (limit {OPEN_LIMIT_S:g} s; {first})")
    fits = median(written) <= WRITE_LIMIT_S and median(opened) <= OPEN_LIMIT_S
    return 0 if fits and (arguments.samples or size <= LIMIT_MB) else 1


if __name__ == "__main__":
    sys.exit(main())
