"""Storage of studies: a file in the cache folder, or a database given by its URL."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.tune.errors import TuneError

if TYPE_CHECKING:
    import optuna
    from sqlalchemy.engine import URL

#: Seconds that a worker waits while another one writes to the same file.
_WAIT = 60.0


class StudyError(TuneError):
    """Raised if a study can't be used; ``str()`` is the complete message."""


def check_optuna() -> None:
    """Check that Optuna is installed.

    Raises:
        StudyError: it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise StudyError(
            "llmperf tune needs Optuna, which is not installed; "
            "run: pip install 'pytest-llmperf[tune]'"
        ) from None


def file_url(folder: Path, name: str) -> str:
    """Return the URL of a study's file; its folder is created."""
    folder.mkdir(parents=True, exist_ok=True)
    safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
    return f"sqlite:///{(folder / f'{safe}.db').absolute()}"


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Open the storage that a URL names.

    Raises:
        Exception: it can't be used; the type depends on the database.
    """
    import optuna

    if _parsed(url) is None:
        raise ValueError("expected a URL such as postgresql://user@host/database")
    options: dict[str, Any] = {}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": _WAIT}}
    with quiet():
        return optuna.storages.RDBStorage(url, engine_kwargs=options)


def without_password(url: str) -> str:
    """Return a URL safe to show: without its password, and its query, which may contain one."""
    parsed = _parsed(url)
    if parsed is None:
        return url.partition(":")[0]
    shown = parsed.create(
        parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database
    )
    return shown.render_as_string()


def _parsed(url: str) -> URL | None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's notices of experimental features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
