"""Whether every command survives stored files in which any value is damaged.

    python benchmarks/damaged_files.py [--quick] [--kind record] [--no-sessions]

Real sessions of a small application write each kind of file. Then every value of it in turn
becomes null, zero, a number too large, other text, a list and so on, and every command that
reads such a file is run. It must either use a damaged file or name it once, with the cause and the
remedy; none may end in a traceback, or print a NaN or a control character. Sessions take a second
each, so one reads all damages of a kind that do not hide each other. The table counts the runs
per kind of file and command; exit status 0 if none went wrong. It takes about 12 minutes on two
cores, with ``--quick`` (one place in twelve) four.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from damage_project import KINDS, CommandOutput, DamageProject, Kind
from file_damage import Damage, damage, damaged, find_fault, names_file

#: With ``--quick``, one place in so many is damaged.
_ONE_IN = 12
#: Parts of a record (machine, model) whose values hide others, but not those of the same part;
#: and keys whose values hide all: a session refuses the record, or compares other work.
_GROUPS = ("strict", "model")
_ALONE = ("schema", "recorded", "key", "workload", "invalid")


class Tally:
    """Counter of outcomes per kind of file and command, and list of what went wrong."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self.wrong: list[str] = []

    def add(self, kind: Kind, command: str, output: CommandOutput, name: str, of: str) -> bool:
        """Judge one run, and return whether the file was used; ``of`` says what was damaged."""
        refused = output.failed or names_file(output.errors, name)
        problem = find_fault(output.text, output.errors, name, refused=refused)
        outcome = "wrong" if problem else "refused" if refused else "used"
        self._counts[kind, command, outcome] += 1
        if problem:
            self.wrong.append(f"{kind}, {command}, {of}: {problem}")
        return outcome == "used"

    def table(self) -> Iterator[str]:
        """Yield the lines of a Markdown table."""
        yield "| file | command | runs | used | refused | wrong |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for kind, command in dict.fromkeys((k, c) for k, c, _ in self._counts):
            outcomes = [self._counts[kind, command, key] for key in ("used", "refused", "wrong")]
            yield f"| {kind} | {command} | {sum(outcomes)} | {' | '.join(map(str, outcomes))} |"


def run_kind(project: DamageProject, kind: Kind, quick: bool, sessions: bool, tally: Tally) -> None:
    """Damage the file of one kind in every way, and run everything that reads it."""
    file = project.file(kind)
    whole = file.read_text(encoding="utf-8")
    intact = whole.strip().splitlines()[-1] if kind == "kept pairs" else whole
    readers = project.readers(kind)
    session = readers.pop("session", None)
    used: list[Damage] = []
    try:
        for number, broken in enumerate(damaged(intact)):
            if quick and number // len(damaged_values()) % _ONE_IN:
                continue
            file.write_text(broken.text, encoding="utf-8")
            place = f"{broken.place} {broken.value}"
            fine = [tally.add(kind, c, run(), file.name, place) for c, run in readers.items()]
            if all(fine):
                used.append(broken)
        if session is not None and sessions:
            for place, text in _merged(intact, used):
                file.write_text(text, encoding="utf-8")
                tally.add(kind, "session", session(), file.name, place)
    finally:
        file.write_text(whole, encoding="utf-8")


def damaged_values() -> Sequence[str]:
    """Return the names of the replacements that each value gets in turn."""
    from file_damage import REMOVED, VALUES

    return (*VALUES, REMOVED)


def _merged(text: str, used: Sequence[Damage]) -> Iterator[tuple[str, str]]:
    """Yield texts that hold many damages each: all of one kind that do not hide each other."""
    for value in damaged_values():
        groups: dict[object, list[Damage]] = {}
        for entry in used:
            if entry.value == value:
                alone = entry.path if any(key in _ALONE for key in entry.path) else None
                group = next((name for name in _GROUPS if name in entry.path), None)
                groups.setdefault(alone or group, []).append(entry)
        for alike in groups.values():
            paths = [entry.path for entry in alike]
            # A value inside another damaged value is gone.
            inner = [p for p in paths if not any(p != q and q[: len(p)] == p for q in paths)]
            yield f"{len(inner)} places like {alike[0].place} {value}", damage(text, inner, value)


def main() -> int:
    """Print the table, and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"one place in {_ONE_IN} only")
    parser.add_argument("--kind", choices=KINDS, action="append", help="of file; default: all")
    parser.add_argument("--no-sessions", action="store_true", help="run no session")
    arguments = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="llmperf-damage-") as folder:
        project = DamageProject(Path(folder))
        project.fill()
        for kind in arguments.kind or KINDS:
            print(f"damages: {kind}", file=sys.stderr, flush=True)
            run_kind(project, kind, arguments.quick, not arguments.no_sessions, tally)
    print("\n".join(tally.table()))
    for problem in tally.wrong[:40]:
        print(problem)
    if len(tally.wrong) > 40:
        print(f"and {len(tally.wrong) - 40} more")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
