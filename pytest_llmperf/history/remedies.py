"""Fixes for files that the history leaves out, added to the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.baselines.errors import restore

if TYPE_CHECKING:
    from pathlib import Path


def with_remedy(why: str, path: str, top: Path, again: str) -> str:
    """Return the reason, with the remedy on a second line unless it has one.

    Args:
        why: the reason.
        path: of the file, from the repository's top.
        top: of the work tree.
        again: how to make another file of this kind.
    """
    if "\n" in why:
        return why
    if (top / path).exists() or (top / path).is_symlink():
        return f"{why}\n{restore(top / path, again)}"
    return f"{why}\nit lies in earlier commits only, so there is nothing to restore or to remove"
