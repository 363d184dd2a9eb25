"""Imports result files: reads all of them, makes sessions of the new runs, and stores those."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.record import KEY_PREFIX, SourceFile, to_text
from pytest_llmperf.baselines.store import StoredRecord
from pytest_llmperf.importers.items import FIX_VALUE, shortened
from pytest_llmperf.importers.protocol import LayoutError
from pytest_llmperf.importers.read_file import read_result_file
from pytest_llmperf.importers.sessions import SourcedRun, StatedFacts, sessions_of
from pytest_llmperf.importers.tools import importer_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.record import BaselineRecord
    from pytest_llmperf.baselines.store import BaselineStore
    from pytest_llmperf.importers.protocol import FieldUse


@dataclass(frozen=True)
class ImportRequest:
    """What a user asks to import.

    Attributes:
        files: result files, of one tool or of several.
        store: where the sessions go.
        tool: the tool that wrote all of them; None to recognise each.
        stated: facts that the user states about the runs.
        keep_going: import the other files if a file is refused.
        dry_run: store nothing.
    """

    files: Sequence[Path]
    store: BaselineStore
    tool: str | None = None
    stated: StatedFacts = field(default_factory=StatedFacts)
    keep_going: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class ImportedFile:
    """A file that was read.

    Attributes:
        source: its name and hash.
        tool: the tool and its version.
        runs: number of its runs.
        known: for each run that was imported before, the session that holds it.
        fields: what became of its fields.
        notes: notes for the user.
    """

    source: SourceFile
    tool: str
    runs: int
    known: tuple[str, ...]
    fields: tuple[FieldUse, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RefusedFile:
    """A file that can't be imported: the problem, and its fix."""

    path: Path
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}\n  {self.fix}"


@dataclass(frozen=True)
class ImportResult:
    """What became of the files.

    Attributes:
        files: those that were read, in the order given.
        refused: the others.
        sessions: new sessions, with the path of their file, or of a folder if not stored.
        stored: whether the sessions were stored.
    """

    files: tuple[ImportedFile, ...]
    refused: tuple[RefusedFile, ...]
    sessions: tuple[StoredRecord, ...]
    stored: bool


def import_files(request: ImportRequest) -> ImportResult:
    """Read files and store their sessions.

    Nothing is stored if a file is refused, unless the request says to keep going. A run that a
    stored session holds is not stored again.

    Raises:
        BaselineError: the store can't be read or written.
    """
    known = _known_runs(request.store)
    files: list[ImportedFile] = []
    refused: list[RefusedFile] = []
    new: list[SourcedRun] = []
    for path in request.files:
        try:
            imported, runs = _read(path, request, known)
        except LayoutError as error:
            refused.append(RefusedFile(path, str(error), error.fix))
            continue
        files.append(imported)
        new += runs
        known.update((item.run.digest, f"{imported.source.name} of this import") for item in runs)
    records = sessions_of(new, request.stated)
    for record in records:
        _check(record)
    stored = not request.dry_run and (request.keep_going or not refused)
    store = request.store
    sessions = tuple(
        StoredRecord(store.write(record) if stored else store.root / record.machine.key, record)
        for record in records
    )
    return ImportResult(tuple(files), tuple(refused), sessions, stored)


def _known_runs(store: BaselineStore) -> dict[str, str]:
    """Return the digest of every run that was imported before, and its session's path."""
    return {
        digest: str(stored.path)
        for key in store.machines()
        if key.startswith(KEY_PREFIX)
        for stored in store.read_machine(key)
        if stored.record.imported is not None
        for digest in stored.record.imported.runs
    }


def _read(
    path: Path, request: ImportRequest, known: dict[str, str]
) -> tuple[ImportedFile, list[SourcedRun]]:
    """Read a file and return it with its new runs; raises LayoutError."""
    file = read_result_file(path)
    importer = importer_of(file.documents, request.tool)
    results = importer.read(file.documents)
    if not any(run.metrics for run in results.runs):
        raise LayoutError(
            f"this {importer.tool} file has no field that is a metric here: "
            + "; ".join(f"{use.field}: {use.why}" for use in results.fields[:3]),
            "measure with streaming, or see docs/import.md for what can be imported",
        )
    source = SourceFile(shortened(path.name), file.sha256)
    before: list[str] = []
    runs: dict[str, SourcedRun] = {}
    for run in results.runs:
        if run.digest in known or run.digest in runs:
            before.append(known.get(run.digest, f"{source.name} of this import"))
        elif run.metrics:
            runs[run.digest] = SourcedRun(importer.tool, run, source, file.modified)
    _check_storable(list(runs.values()), request.stated)
    versions = dict.fromkeys(run.identity.version or "" for run in results.runs)
    label = f"{importer.tool} {', '.join(filter(None, versions))}".strip()
    imported = ImportedFile(
        source, label, len(results.runs), tuple(before), results.fields, results.notes
    )
    return imported, list(runs.values())


def _check_storable(runs: Sequence[SourcedRun], stated: StatedFacts) -> None:
    """Refuse a file that has a value that no session can hold, such as a date in the year 1."""
    for record in sessions_of(runs, stated):
        try:
            to_text(record)
        except ValueError as error:
            raise LayoutError(f"can't be stored as a session: {error}", FIX_VALUE) from None


def _check(record: BaselineRecord) -> None:
    """Check that a session can be stored, before any session is."""
    try:
        to_text(record)
    except ValueError as error:
        from pytest_llmperf.baselines.errors import BaselineError

        raise BaselineError(
            f"{record.machine.key}: the session can't be stored: {error}\n"
            "  report it with the result file"
        ) from None
