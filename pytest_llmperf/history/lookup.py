"""Resolves the repository, metrics and start of a history that a user names."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.lookup import WrongArgumentError, unknown
from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.revisions import resolve

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from pytest_llmperf.repository.revisions import Revision


def repository_around(folder: Path) -> Repository:
    """Return the repository that a folder is, or was, in.

    Raises:
        BaselineError: there is none.
    """
    existing = folder.resolve()
    while not existing.is_dir() and existing != existing.parent:
        existing = existing.parent
    repository = Repository.around(existing)
    if repository is None or not folder.resolve().is_relative_to(repository.top):
        raise BaselineError(
            f"{folder}: not in a git repository, so there is no history\n"
            "  what is recorded there: llmperf baseline show; or name a folder in a repository: "
            "--dir FOLDER"
        )
    return repository


def choose_metrics(
    asked: list[str] | None, known: Collection[str], where: str
) -> Collection[str] | None:
    """Check the metrics asked for and return them; None for the defaults.

    Raises:
        WrongArgumentError: a metric was never recorded.
    """
    if asked is None:
        return None
    if "all" in asked:
        return known
    for name in asked:
        if name not in known:
            raise WrongArgumentError(unknown("metric", name, known, where))
    return asked


def choose_start(asked: str | None, repository: Repository) -> Revision | str | None:
    """Return the date or the commit to start at; None for the oldest.

    Raises:
        RevisionError, WrongArgumentError: it is neither.
    """
    from pytest_llmperf.history.build import DATE  # imports numpy, which is slow

    if asked is None:
        return None
    if not DATE.fullmatch(asked):
        return resolve(repository, asked)
    try:
        datetime.fromisoformat(asked.removesuffix("Z"))
    except ValueError:
        raise WrongArgumentError(f"--since {asked} is not a valid date or time") from None
    return asked
