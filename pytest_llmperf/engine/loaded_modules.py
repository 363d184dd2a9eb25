"""Finds the files that this process imported a project's modules from."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping


def loaded_modules(names: Iterable[str]) -> dict[str, str]:
    """Return the file (of a namespace package: the folder) of each named module imported here."""
    found = {}
    for name in names:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if file is None:
            file = next(iter(getattr(module, "__path__", ())), None)
        if file is not None:
            found[name] = str(file)
    return found


def labelled_as_engine(origins: Mapping[str, str]) -> dict[str, str]:
    """Label modules as imported in the engine's process, as this one may have the same names."""
    return {f"{name} (in the engine's process)": file for name, file in origins.items()}
