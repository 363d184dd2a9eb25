"""Reads pytest-benchmark's JSON: the times of a function's calls, one test each.

pytest-benchmark times any function. A call's time is the end-to-end time of a function that makes
its requests and returns after their last token; the file can't say whether it does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pytest_llmperf.importers.items import FieldTable, Item, digest_of, shortened, time_of
from pytest_llmperf.importers.protocol import (
    CommitInfo,
    ImportedRun,
    LayoutError,
    ToolIdentity,
    ToolResults,
)

_SIGNS = frozenset({"benchmarks", "machine_info", "version", "datetime"})
#: More rounds than this are summarised by their median: no model was called so often.
_MAX_ROUNDS = 200
_OTHER_STATS = (
    *("min", "max", "mean", "stddev", "iqr", "q1", "q3", "ops", "total", "hd15iqr", "ld15iqr"),
    *("outliers", "stddev_outliers", "iqr_outliers"),
)
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class PytestBenchmark:
    """Reads the results of pytest-benchmark."""

    tool = "pytest-benchmark"
    written_by = "pytest --benchmark-json FILE (or --benchmark-save NAME)"
    signs = "an object with benchmarks, machine_info, version and datetime"

    def recognises(self, documents: Sequence[Any]) -> bool:
        """Whether the documents are one result of pytest-benchmark."""
        first = documents[0] if len(documents) == 1 else None
        return isinstance(first, dict) and first.keys() >= _SIGNS

    def read(self, documents: Sequence[Any]) -> ToolResults:
        """Return a run for each benchmark.

        Raises:
            LayoutError: a field is missing or impossible, or there is no benchmark.
        """
        table = FieldTable()
        file = Item(documents[0], "", self.tool)
        identity, recorded = _identity(file), time_of(file, "datetime")
        runs = tuple(_run(item, identity, recorded, table) for item in file.items("benchmarks"))
        if not runs:
            raise LayoutError("it holds no benchmark", "run pytest with the benchmarks selected")
        notes = (
            "a time is that of a whole call: it is end to end if the benchmarked function makes "
            "its requests and returns after their last token",
        )
        return ToolResults(runs, table.uses(), notes)


def _run(
    item: Item, identity: ToolIdentity, recorded: str | None, table: FieldTable
) -> ImportedRun:
    stats = item.item("stats")
    name = item.text("fullname") or item.text("name")
    if name is None:
        raise item.missing("fullname")
    rounds = stats.numbers("data") if stats.has("data") else ()
    if rounds and len(rounds) <= _MAX_ROUNDS:
        source, values = "stats.data", rounds
    else:
        source, values = "stats.median", (stats.number("median"),)
    if not all(values):
        raise stats.wrong(source.partition(".")[2], "numbers above 0", 0)
    table.add_used(
        source, "end_to_end", "time of a call, seconds; rounds are repetitions in one run"
    )
    table.add_unused_if_present(stats, _OTHER_STATS, "computed from the same rounds")
    table.add_unused_if_present(item, ("extra_info",), "the user's own notes")
    return ImportedRun(
        test=shortened(name),
        workload={"call": shortened(name), "concurrency": 1},
        summary="one call of the benchmarked function",
        metrics={"end_to_end": values},
        identity=identity,
        recorded=recorded,
        digest=digest_of([recorded, item.data]),
    )


def _identity(file: Item) -> ToolIdentity:
    machine = file.item("machine_info")
    cpu = machine.optional_item("cpu")
    facts = {
        "cpu": cpu.text("brand_raw") if cpu is not None else machine.text("processor"),
        "cores": cpu.optional_whole("count") if cpu is not None else None,
        "architecture": machine.text("machine"),
        "system": machine.text("system"),
    }
    return ToolIdentity(
        version=file.text("version"),
        engine="pytest-benchmark",
        engine_version=file.text("version"),
        model="any model called",
        machine={name: value for name, value in facts.items() if value is not None},
        commit=_commit(file.optional_item("commit_info")),
        python=machine.text("python_version"),
    )


def _commit(info: Item | None) -> CommitInfo | None:
    commit = info.text("id") if info is not None else None
    if info is None or commit is None or _HASH.fullmatch(commit) is None:
        return None
    branch = info.text("branch")
    known = None if branch in ("(unknown)", "(detached head)") else branch
    return CommitInfo(commit, bool(info.data.get("dirty")), known)
