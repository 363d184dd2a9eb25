"""Whether ``--llmperf-against HEAD~1`` is right about commits whose effect is known.

    python benchmarks/ab_commits.py --repeats 20

A repository is made whose application runs a real model; one commit slows each
decode step by 6%, one the evaluation of the prompt by 6%, one changes a comment.
Each is compared with its parent as often as asked for, in turn, every time anew.
Needs a quiet machine: nothing else should use the cores. With the cores to itself a
session takes about 10 pairs; where other machines on the same host are busy, up to 40.
With more cores, sessions can run side by side: ``--lanes 6``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commit_repository import Application, CommitRepository
from lanes import add_lanes_argument, check_lanes, side_by_side

from pytest_llmperf.arguments import duration

#: Scenario -> (code before, code after, the metric that has to be called; None: all must pass).
SCENARIOS: dict[str, tuple[str, str, str | None]] = {
    "decode 6% slower": ("DECODE = 0.0", "DECODE = 0.06", "tokens_per_sec"),
    "first token 6% slower": ("PREFILL = 0.0", "PREFILL = 0.06", "first_token"),
    "a comment": ('"""Yield token ids."""', '"""Yield the ids of tokens."""', None),
}


@dataclass
class Tally:
    """What came of one scenario's repeats."""

    right: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)


def one(repository: CommitRepository, report: Path) -> dict[str, Any]:
    """Compare HEAD with its parent; return the session's report and its wall time."""
    report.unlink(missing_ok=True)
    began = time.monotonic()
    done = repository.run(
        *("pytest", "-q", "-m", "perf", "--llmperf-against", "HEAD~1"),
        f"--llmperf-json={report}",
    )
    if not report.exists():
        raise SystemExit(f"no report:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return {**found, "wall": time.monotonic() - began}


def judge(found: dict[str, Any], metric: str | None) -> tuple[bool, str]:
    """Return whether a session was right, and its verdicts."""
    (test,) = found["tests"]
    verdicts = {one["name"]: one["verdict"] for one in test["metrics"] if one["gated"]}
    text = ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items())
    if metric is None:
        return set(verdicts.values()) <= {"pass"}, text
    # What sampling stopped for may be another metric that the same change slows.
    called = test["verdict"] == "regressed"
    return called, text


def main() -> None:
    """Print a line per session, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=20, help="of each scenario (default 20)")
    Application.add_arguments(parser)
    parser.add_argument(
        "--budget", type=duration, default=math.inf, help="begin no session after so long, as 30m"
    )
    parser.add_argument("--json", type=Path, help="write every session's outcome to this file")
    add_lanes_argument(parser)
    arguments = parser.parse_args()
    application = Application.of(parser, arguments)
    check_lanes(parser, arguments.lanes, application.threads, application.gpu)
    tallies = {name: Tally() for name in SCENARIOS}
    outcomes = []
    until = time.monotonic() + arguments.budget
    with tempfile.TemporaryDirectory() as temporary:

        def session(job: tuple[int, str], environ: dict[str, str]) -> dict[str, Any] | None:
            repeat, name = job
            if time.monotonic() > until:
                return None
            folder = Path(temporary) / f"{repeat}-{list(SCENARIOS).index(name)}"
            made = CommitRepository(folder / "repository", application, environ)
            made.edit(*SCENARIOS[name][:2])
            made.commit(name)
            return one(made, folder / "report.json")

        jobs = []
        for repeat in range(1, arguments.repeats + 1):
            names = list(SCENARIOS)
            random.shuffle(names)
            jobs += [(repeat, name) for name in names]
        for (repeat, name), found in side_by_side(session, jobs, arguments.lanes):
            if found is None:
                continue
            right, verdicts = judge(found, SCENARIOS[name][2])
            tally = tallies[name]
            tally.right.append(right)
            tally.seconds.append(found["wall"])
            tally.pairs.append(found["tests"][0]["pairs"])
            tally.verdicts.append(verdicts)
            outcomes.append({"scenario": name, "repeat": repeat, "right": right, **found})
            print(
                f"{repeat:>3} {name:<22} {'right' if right else 'WRONG':<6}"
                f"{found['tests'][0]['pairs']:>3} pairs {found['wall']:>6.1f} s  {verdicts}",
                flush=True,
            )
            if arguments.json:
                arguments.json.write_text(json.dumps(outcomes), encoding="utf-8")
    print(f"\n{'commit':<22} {'right':>8} {'pairs':>16} {'seconds':>20}")
    for name, tally in tallies.items():
        if not tally.right:
            continue
        pairs, seconds = tally.pairs, tally.seconds
        print(
            f"{name:<22} {sum(tally.right):>3} of {len(tally.right):<2} "
            f"{statistics.median(pairs):>6g} ({min(pairs)} to {max(pairs)})".ljust(52)
            + f"{statistics.median(seconds):>6.0f} ({min(seconds):.0f} to {max(seconds):.0f})"
        )


if __name__ == "__main__":
    main()
