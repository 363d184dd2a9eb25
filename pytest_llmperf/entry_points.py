"""What other installed packages add to the plugin, found through their entry points."""

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
    """Return the entry points of a group by name; nothing of the packages is imported."""
    return _installed(group, tuple(map(str, sys.path)))


@lru_cache(maxsize=8)
def _installed(group: str, _path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    from importlib.metadata import entry_points

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for one in entry_points(group=group):
        found[one.name] = (*found.get(one.name, ()), one)
    return dict(sorted(found.items()))


def package_of(entry_point: EntryPoint) -> str:
    """Return the name of the package that brings an entry point."""
    package = entry_point.dist
    if package is None:  # made by hand
        return entry_point.module.partition(".")[0].replace("_", "-")
    return str(package.name)


def load_only(found: tuple[EntryPoint, ...], kind: str) -> Any:
    """Import and return the object that these entry points of one name stand for.

    Args:
        found: all of one name and group, at least one.
        kind: what an error calls it: ``engine`` or ``metric``.

    Raises:
        EntryPointError: several packages bring it, or its import fails.
    """
    first = found[0]
    if len(found) > 1:
        packages = " and ".join(sorted(map(package_of, found)))
        raise EntryPointError(
            f"the packages {packages} both bring the {kind} {first.name!r}; uninstall one of them"
        )
    try:
        return first.load()
    except (Exception, SystemExit) as error:  # its import runs whatever the package says
        raise broken(first, kind, f"{type(error).__name__}: {error}") from error


def broken(entry_point: EntryPoint, kind: str, why: str) -> EntryPointError:
    """Return the error about an entry point that can't be used."""
    return EntryPointError(
        f"the {kind} {entry_point.name!r} of the package {package_of(entry_point)} can't be "
        f"loaded ({entry_point.value}): {why}; mend or uninstall that package"
    )
