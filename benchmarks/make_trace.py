"""Turn an A/A calibration into a trace for ``gate_accuracy.py`` to resample.

    llmperf calibrate --json aa.json -- benchmarks/live/test_short.py
    python benchmarks/make_trace.py aa.json [--file benchmarks/data/gate_trace.json]

Both sides of an A/A calibration are the same engine, so all its processes are alike. The
trace has them pair by pair, as they ran.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

DEFAULT = Path(__file__).parent / "data" / "gate_trace.json"


def trace_of(calibration: dict[str, Any]) -> dict[str, Any]:
    """Return the trace: metric -> processes x iterations, base units, in order.

    Raises:
        ValueError: something was planted, or there are several tests.
    """
    if calibration["plant"]:
        raise ValueError("a slowdown was planted in it; an A/A calibration is needed")
    tests = {check["nodeid"] for run in calibration["runs"] for check in run["checks"]}
    if len(tests) != 1:
        raise ValueError(f"it has {len(tests)} tests; calibrate with one")
    metrics: dict[str, list[list[float]]] = {}
    for run in calibration["runs"]:
        for check in run["checks"]:
            rows = metrics.setdefault(check["metric"], [])
            for pair in zip(check["candidate"], check["base"], strict=True):
                rows += [[float(f"{value:.6g}") for value in row] for row in pair]
    return {
        "machine": calibration["machine"],
        "model": calibration["model_name"],
        "engine": calibration["engine_version"],
        "metrics": metrics,
    }


def text_of(trace: dict[str, Any]) -> str:
    """Return JSON with one process a line."""
    head = {key: value for key, value in trace.items() if key != "metrics"}
    lines = json.dumps(head, indent=1)[:-2]
    blocks = [
        f'  "{name}": [\n' + ",\n".join(f"   {json.dumps(row)}" for row in rows) + "\n  ]"
        for name, rows in trace["metrics"].items()
    ]
    return lines + ',\n "metrics": {\n' + ",\n".join(blocks) + "\n }\n}\n"


def main() -> int:
    """Convert one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--file", type=Path, default=DEFAULT)
    arguments = parser.parse_args()
    try:
        trace = trace_of(json.loads(arguments.calibration.read_text(encoding="utf-8")))
        arguments.file.parent.mkdir(parents=True, exist_ok=True)
        arguments.file.write_text(text_of(trace), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        print(f"make_trace: {arguments.calibration}: {problem!r}", file=sys.stderr)
        return 2
    print(f"{sum(map(len, trace['metrics'].values()))} rows in {arguments.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
