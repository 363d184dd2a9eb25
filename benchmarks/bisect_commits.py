"""How often ``llmperf bisect`` names the commit that slowed decode, and how long it takes.

    python benchmarks/bisect_commits.py --tries 10 [--slower 10%] [--tolerance 5%] [--file FILE]

Every try makes a repository with 32 commits after the good one. All of them change
the application's text; one of them, at a random place, also slows the decode step. A slowdown
below the tolerance may or may not be called: 4% needs ``--tolerance 3%``.
Needs a quiet machine: nothing else should use the cores. With more cores, tries can
run side by side: ``--lanes 6``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from commit_repository import Application, CommitRepository
from lanes import add_lanes_argument, check_lanes, side_by_side
from outcomes import Outcomes

from pytest_llmperf.arguments import duration, share


def bisect_once(
    folder: Path,
    commits: int,
    application: Application,
    place: int,
    slower: float,
    environ: dict[str, str],
) -> dict[str, Any]:
    """Make a repository whose commit number ``place`` is slow; return what bisect found."""
    repository = CommitRepository(folder, application, environ)
    good = repository.git("rev-parse", "HEAD")
    culprit = ""
    for number in range(1, commits + 1):
        file = repository.folder / "app.py"
        file.write_text(f"{file.read_text(encoding='utf-8')}# Change {number}.\n", encoding="utf-8")
        if number == place:
            repository.edit("DECODE = 0.0", f"DECODE = {slower}")
        commit = repository.commit(f"Change {number}")
        if number == place:
            culprit = commit
    report = folder.parent / f"{folder.name}.json"
    began = time.monotonic()
    done = repository.run("pytest_llmperf.cli", "bisect", good, "HEAD", "--json", str(report))
    seconds = time.monotonic() - began
    if not report.exists():
        raise SystemExit(f"no outcome:\n{done.stdout}{done.stderr}")
    outcome: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    sessions = [outcome["end"], *outcome["path"], outcome["verification"]]
    return {
        "place": place,
        "right": bool(outcome["first"]) and outcome["first"]["hash"] == culprit,
        "kind": outcome["kind"],
        "sessions": sum(1 for session in sessions if session),
        "seconds": seconds,
        "effects": [finding["text"] for finding in outcome["effects"]],
        "output": done.stdout,
    }


def main() -> None:
    """Print a line per try, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=10, help="repositories (default 10)")
    parser.add_argument("--commits", type=int, default=32, help="in each (default 32)")
    Application.add_arguments(parser)
    parser.add_argument(
        "--budget", type=duration, default=math.inf, help="begin no try after so long, as 30m"
    )
    parser.add_argument("--slower", type=share, default=0.1, help="decode (default 10%%)")
    parser.add_argument("--tolerance", default="5%", help="of the perf test (default 5%%)")
    Outcomes.add_argument(parser)
    add_lanes_argument(parser)
    arguments = parser.parse_args()
    application = replace(Application.of(parser, arguments), tolerance=arguments.tolerance)
    check_lanes(parser, arguments.lanes, application.threads, application.gpu)
    conditions = {**asdict(application), "commits": arguments.commits, "slower": arguments.slower}
    outcomes = Outcomes(arguments.file, {**conditions, "model": str(application.model)})
    until = time.monotonic() + arguments.budget
    with tempfile.TemporaryDirectory() as temporary:

        def one_try(number: int, environ: dict[str, str]) -> dict[str, Any] | None:
            if time.monotonic() > until:
                return None
            place = random.randint(1, arguments.commits)
            folder = Path(temporary) / f"try{number}"
            slower = arguments.slower
            return bisect_once(folder, arguments.commits, application, place, slower, environ)

        numbers = range(len(outcomes.all) + 1, arguments.tries + 1)
        for number, outcome in side_by_side(one_try, numbers, arguments.lanes):
            if outcome is None:
                continue
            outcomes.add(outcome)
            print(
                f"{number:>3} commit {outcome['place']:>2} of {arguments.commits}: "
                f"{'right' if outcome['right'] else 'WRONG':<6}{outcome['kind']:<12}"
                f"{outcome['sessions']:>2} sessions {outcome['seconds']:>6.0f} s  "
                f"{'; '.join(outcome['effects'])}",
                flush=True,
            )
    if not outcomes.all:
        return
    seconds = [outcome["seconds"] for outcome in outcomes.all]
    right = sum(outcome["right"] for outcome in outcomes.all)
    print(
        f"\nright {right} of {len(outcomes.all)}; {statistics.median(seconds):.0f} s in the middle "
        f"({min(seconds):.0f} to {max(seconds):.0f})"
    )


if __name__ == "__main__":
    main()
