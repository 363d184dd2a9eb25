"""How often does the gate raise false alarms, what does it catch, and after how many pairs?

    python benchmarks/gate_accuracy.py [--repetitions 5000] [--quick] [--part NAME ...]
        [--seed 1] [--trace FILE] [--json FILE]

Simulates the product's own functions on modelled noise and on a recorded trace of real
engine processes, next to other tools' rules. Everything is seeded; every rate has its
exact 95% binomial interval or its standard error. Exit status 0 if every requirement is
met, 1 if one is missed, 2 if something could not be simulated. With --quick a requirement
counts as missed only where the whole interval lies beyond it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import gate_blocks
import gate_checks
import gate_minority
import gate_peers
import gate_procedure
import gate_sessions
import gate_speed
import gate_trace
from exit_status import exit_with
from gate_checks import Settings
from gate_tables import Report
from gate_trace import TraceError

QUICK = 100

PARTS: dict[str, Callable[[Report, Settings], None]] = {
    "regimes": gate_checks.run,
    "small tolerances": gate_checks.small_tolerances,
    "evidence": gate_checks.evidence,
    "session": gate_sessions.run,
    "procedure": gate_procedure.run,
    "peers": gate_peers.run,
    "minority": gate_minority.run,
    "blocks": gate_blocks.run,
    "trace": gate_trace.run,
    "speed": gate_speed.run,
}


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--repetitions", type=int, default=5000, help="per row, at least 20")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} repetitions")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be given repeatedly")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", type=Path, default=gate_trace.DEFAULT, help="a recorded trace")
    parser.add_argument("--json", type=Path, help="write every table there")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions = QUICK
    if arguments.repetitions < 20:
        parser.error(f"--repetitions: expected at least 20, got {arguments.repetitions}")
    return arguments


def main() -> int:
    """Simulate, print, and judge."""
    arguments = parse_arguments()
    settings = Settings(arguments.repetitions, arguments.seed)
    report = Report(exact=not arguments.quick)
    parts = arguments.part or list(PARTS)
    if "trace" in parts:
        # Report a bad trace now, not after ten minutes.
        gate_trace.read_trace(arguments.trace)
    seconds: dict[str, float] = {}
    for name in parts:
        began = time.perf_counter()
        if name == "trace":
            gate_trace.run(report, settings, arguments.trace)
        else:
            PARTS[name](report, settings)
        seconds[name] = time.perf_counter() - began
    met = report.close()
    took = ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items())
    print(f"\n{sum(seconds.values()):.0f} s ({took}); seed {settings.seed}")
    if arguments.json:
        document = {
            "settings": asdict(settings),
            "tables": report.tables,
            "requirements": [asdict(requirement) for requirement in report.requirements],
            "seconds": seconds,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    exit_with(main, OSError, TraceError)
