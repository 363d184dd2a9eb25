"""Everything that was ever recorded in a baselines folder: sessions, ordered along the commits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.files import RECORD
from pytest_llmperf.history.commits import place, read_commits
from pytest_llmperf.history.helper import Helper
from pytest_llmperf.history.reading import Reading
from pytest_llmperf.history.record_files import add_others, head_files
from pytest_llmperf.history.remedies import with_remedy
from pytest_llmperf.history.series import Session, seconds

if TYPE_CHECKING:
    from pytest_llmperf.history.cache import SessionCache
    from pytest_llmperf.history.record_files import RecordFiles
    from pytest_llmperf.history.sessions import Sessions
    from pytest_llmperf.repository.git import Repository


@dataclass
class Archive:
    """What a baselines folder and its history hold.

    Attributes:
        repository: where.
        folder: POSIX path of the baselines from the repository's top.
        records: what was read, row by row.
        sessions: the same sessions, oldest first.
        order: the row of each session.
        files: where the records and decisions lie.
        unreadable: path -> why that record is left out, and on a second line what mends it.
    """

    repository: Repository
    folder: str
    records: Sessions
    sessions: list[Session]
    order: list[int]
    files: RecordFiles
    unreadable: dict[str, str] = field(default_factory=dict)

    def tests(self) -> set[str]:
        """Return the node ids of all tests that were ever recorded."""
        return {part.nodeid for layout in self.records.layouts for part in layout}

    def metrics(self) -> set[str]:
        """Return the names of all metrics that were ever recorded."""
        return {
            name for layout in self.records.layouts for part in layout for name, _ in part.metrics
        }

    def machines(self) -> list[str]:
        """Return the keys of all machines with a session, sorted."""
        return sorted({session.machine for session in self.sessions})


def read_archive(
    repository: Repository,
    folder: str,
    machine: str | None = None,
    cache: SessionCache | None = None,
    helper: Helper | None = None,
) -> Archive:
    """Read the records of one machine, or of all, that the history of HEAD or the work tree holds.

    With ``helper``, a second process may read a part of them.

    A session stands at the commit it measured; one whose commit is not in the history
    stands behind the commits there were when it was recorded.

    Raises:
        GitError: git cannot be asked.
    """
    helper = helper or Helper(cpus=1)
    files = head_files(repository, folder, machine)
    reading = Reading(repository.top, cache, helper)
    reading.add(files.blobs)
    commits = read_commits(repository)
    add_others(repository, folder, commits.hashes, files, machine)
    reading.add(files.blobs)
    read = reading.finish(files.uncommitted)
    paths = {blob: path for path, blob in files.blobs.items()}
    paths |= {path: path for path in files.uncommitted}
    # HEAD's content of a file that was changed in the work tree was read, and is no session.
    unreadable = {paths[source]: why for source, why in read.bad.items() if source in paths}
    for row in read.rows:
        key = paths[row.source].split("/")[-2] if row.source in paths else row.machine
        if key != row.machine:
            unreadable[paths[row.source]] = (
                f"a record of machine {row.machine} in the folder of {key}\n"
                f"move it into the folder {row.machine}"
            )
    usable = {source for source, path in paths.items() if path not in unreadable}
    records = read if all(row.source in usable for row in read.rows) else read.only(usable)
    positions = commits.positions(row.commit for row in records.rows if row.commit is not None)
    latest = commits.latest_until()
    placed: list[tuple[float, int, str, int, Session]] = []
    for index, row in enumerate(records.rows):
        path = paths[row.source]
        recorded = seconds(row.recorded)
        where = place(row.commit, recorded, positions, latest)
        session = Session(
            path, row.recorded, row.commit, row.dirty, row.machine, where, row.commit in positions
        )
        placed.append((where, recorded, path, index, session))
    placed.sort(key=lambda one: one[:3])
    return Archive(
        repository,
        folder,
        records,
        [session for *_, session in placed],
        [index for *_, index, _ in placed],
        files,
        {
            path: with_remedy(why, path, repository.top, RECORD.again)
            for path, why in sorted(unreadable.items())
        },
    )
