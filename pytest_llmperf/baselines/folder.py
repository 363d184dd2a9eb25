"""A folder of baselines on disk: its layout, and how files are added without overwriting any."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import platform
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.atomic_write import write_new

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The subfolder of a machine's folder that holds the decisions about its sessions.
DECISIONS_FOLDER = "decisions"
#: Size limit in bytes, far above any real record.
MAX_BYTES = 64 << 20

#: Our temporary files: hidden, and named after the process that writes them.
_TEMPORARY = re.compile(r"^\.llmperf-(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]+\.tmp$")
_RESERVATION = re.compile(r"^\.llmperf-reserved-.+$")
#: Age in seconds at which a leftover is removed if its writer's fate cannot be checked.
_ABANDONED = 24 * 3600.0
#: Errors of a file system without hard links (FAT, some network and user-space ones).
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EINVAL}


def add_file(folder: Path, stem: str, content: bytes) -> Path:
    """Write ``content`` as ``STEM.json``, or ``STEM-2.json`` and so on if that is taken.

    Creates the folder, and removes what killed writers left in it. A reader sees the whole file
    or none, even if this process is killed; two writers never get the same name.

    Raises:
        OSError: as the system reports it; nothing is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    temporary = folder / f".llmperf-{_place()}-{os.getpid()}-{secrets.token_hex(6)}.tmp"
    try:
        write_new(temporary, content)
        path = next(path for path in _paths(folder, stem) if _claim(temporary, path))
        _sync_folder(folder)
        return path
    finally:
        temporary.unlink(missing_ok=True)


def _paths(folder: Path, stem: str) -> Iterator[Path]:
    """Yield candidate paths in order of preference."""
    yield folder / f"{stem}.json"
    for number in itertools.count(2):
        yield folder / f"{stem}-{number}.json"


def _claim(temporary: Path, final: Path) -> bool:
    """Give the temporary file its name; False if that is taken."""
    try:
        # A link, unlike a rename, fails when the name exists.
        os.link(temporary, final)
    except FileExistsError:
        return False
    except (OSError, NotImplementedError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        return _claim_without_links(temporary, final)
    return True


def _claim_without_links(temporary: Path, final: Path) -> bool:
    """Rename the file under a reservation that only one writer can create.

    A writer killed in between leaves a hidden reservation: that name stays unused,
    and the next writer takes the next name.
    """
    reservation = final.with_name(f".llmperf-reserved-{final.name}")
    try:
        os.close(os.open(reservation, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        return False
    try:
        if os.path.lexists(final):
            return False
        temporary.rename(final)
    finally:
        reservation.unlink(missing_ok=True)
    return True


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where folders can be synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _place() -> str:
    """Return an id of the host and pid namespace in which this process's pid is valid."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return hashlib.sha256(f"{platform.node()}/{namespace}".encode()).hexdigest()[:8]


def _sweep(folder: Path) -> None:
    """Remove temporary files of killed writers from ``folder``; those of live ones stay."""
    import psutil

    place, now = _place(), time.time()
    for path in list(folder.iterdir()):
        temporary = _TEMPORARY.match(path.name)
        if not temporary and not _RESERVATION.match(path.name):
            continue
        try:
            dead = (
                temporary is not None
                and temporary["place"] == place
                and not psutil.pid_exists(int(temporary["pid"]))
            )
            if dead or now - path.lstat().st_mtime > _ABANDONED:
                path.unlink()
        except OSError:  # another sweep removed it, or we may not
            continue
