"""Safe writing of model files: never half a file, never over another, never a full disk."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.atomic_write import atomic_file
from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.metrics import Unit
from pytest_llmperf.units import format_quantity

#: Kept free beside the file.
_SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class WrittenModel:
    """A model file that was written.

    Attributes:
        kind: its quantization; empty if it has the several types of a copied file.
        path: of the file.
        size_bytes: of the file.
        seconds: how long it took.
    """

    kind: str
    path: Path
    size_bytes: int
    seconds: float


def check_target(model: str, target: Path, *, overwrite: bool) -> None:
    """Check that a model file can be written, before minutes of work; create its folder.

    Raises:
        ModelError: the file exists, or the folder can't be created.
    """
    if target.is_dir():
        raise ModelError(model, f"{target} is a folder; name a file")
    if target.exists() and not overwrite:
        raise ModelError(model, f"{target} exists; name another file, or overwrite it: --force")
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(model, f"{target} can't be written: {reason.lower()}") from None


def check_room(model: str, target: Path, size_bytes: float) -> None:
    """Check that a file of this size fits on its disk.

    Raises:
        ModelError: it does not.
    """
    folder = target.absolute().parent
    free = shutil.disk_usage(folder).free
    if free < size_bytes + _SPARE_BYTES:
        text = (
            f"{target} takes about {format_quantity(size_bytes, Unit.BYTES)}, and {folder} has "
            f"{format_quantity(free, Unit.BYTES)} left; make room, or name another place: --out"
        )
        raise ModelError(model, text)


@contextmanager
def writing_model(model: str, target: Path) -> Iterator[Path]:
    """Yield a temporary name to write a model file under; rename the file once complete.

    Raises:
        ModelError: the system can't write it.
    """
    try:
        with atomic_file(target) as temporary:
            yield temporary
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = "the disk is full; make room, or name another place: --out"
        else:
            text = (error.strerror or str(error)).lower()
        raise ModelError(model, f"{target} can't be written: {text}") from None
