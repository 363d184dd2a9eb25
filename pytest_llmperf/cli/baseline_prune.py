"""``llmperf baseline prune``: list the unneeded session files; remove them with ``--yes``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.baselines.choice import choose_machine, find_baseline_folder
from pytest_llmperf.baselines.prune import KEEP, remove, unneeded
from pytest_llmperf.cli.output import say, say_words
from pytest_llmperf.gate.words import count
from pytest_llmperf.metrics import Unit
from pytest_llmperf.text import shell_word
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.store import BaselineStore, StoredRecord


def prune(arguments: argparse.Namespace) -> int:
    """List the unneeded sessions; with ``--yes`` remove them, file by file.

    Raises:
        WrongArgumentError: the machine is not there, or not named among several.
        BaselineError: the store cannot be read, or a file not removed.
    """
    folder = find_baseline_folder(arguments.dir)
    key, shelf = choose_machine(folder.store, arguments.machine)
    keep = KEEP if arguments.keep is None else arguments.keep
    going = unneeded(shelf, keep)
    if not going:
        say_words(
            f"{folder.store.root / key}: nothing to remove, every session is still needed (the "
            f"newest {keep} of each test, anchors, accepted levels, what decisions name)"
        )
        return 0
    if arguments.yes:
        return _remove(folder.store, key, going)
    are = "is" if len(going) == 1 else "are"
    say_words(
        f"{folder.store.root / key}: {len(going)} of {count(len(shelf.records), 'session')} "
        f"{are} no longer needed (the newest {keep} of each test, anchors, accepted levels and "
        "what decisions name stay)"
    )
    for stored in going:
        say(f"  {stored.path.name}  {_size(stored.path)}")
    say_words("nothing was removed. What was never committed can't be brought back. To remove it:")
    say(f"  {_command(arguments)}")
    return 0


def _remove(store: BaselineStore, key: str, going: Sequence[StoredRecord]) -> int:
    removed = 0
    for path in remove(store, key, going):
        say(f"removed {path}")
        removed += 1
    folder = shell_word(str(store.root / key))
    say(f"{count(removed, 'session')} removed; commit it:", f"  git add -A {folder} && git commit")
    return 0


def _size(path: Path) -> str:
    try:
        return format_quantity(path.stat().st_size, Unit.BYTES)
    except OSError:  # gone meanwhile
        return "gone"


def _command(arguments: argparse.Namespace) -> str:
    """Return this command with ``--yes``."""
    words = ["llmperf", "baseline", "prune"]
    if arguments.dir is not None:
        words += ["--dir", str(arguments.dir)]
    if arguments.machine is not None:
        words += ["--machine", arguments.machine]
    if arguments.keep is not None:
        words += ["--keep", str(arguments.keep)]
    return " ".join(map(shell_word, [*words, "--yes"]))
