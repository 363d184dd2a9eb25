"""Finds and loads the entry points of installed packages that extend the plugin."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class EntryPointError(Exception):
    """An installed package's entry point can't be used; the message names the package."""


def installed(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a group by name; the packages are not imported."""
    return _installed(group, tuple(map(str, sys.path)))


@lru_cache(maxsize=8)
def _installed(group: str, _path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    from importlib.metadata import entry_points

    by_name: dict[str, tuple[EntryPoint, ...]] = {}
    for entry_point in entry_points(group=group):
        by_name[entry_point.name] = (*by_name.get(entry_point.name, ()), entry_point)
    return dict(sorted(by_name.items()))


def package_of(entry_point: EntryPoint) -> str:
    """Return the name of the package that provides an entry point."""
    package = entry_point.dist
    if package is None:  # not from an installed package
        return entry_point.module.partition(".")[0].replace("_", "-")
    return str(package.name)


def load_unique(entry_points: tuple[EntryPoint, ...], kind: str) -> Any:
    """Import and return the object behind the entry points of one name.

    Args:
        entry_points: all entry points of one name and group, at least one.
        kind: its noun in errors: ``engine`` or ``metric``.

    Raises:
        EntryPointError: several packages provide it, or its import fails.
    """
    first = entry_points[0]
    if len(entry_points) > 1:
        packages = " and ".join(sorted(map(package_of, entry_points)))
        raise EntryPointError(
            f"the packages {packages} both provide the {kind} {first.name!r}; uninstall one of them"
        )
    try:
        return first.load()
    except (Exception, SystemExit) as error:  # the import runs arbitrary code of the package
        raise broken(first, kind, f"{type(error).__name__}: {error}") from error


def broken(entry_point: EntryPoint, kind: str, why: str) -> EntryPointError:
    """Build the error for an entry point that can't be used."""
    return EntryPointError(
        f"the {kind} {entry_point.name!r} of the package {package_of(entry_point)} can't be "
        f"loaded ({entry_point.value}): {why}; fix or uninstall that package"
    )
