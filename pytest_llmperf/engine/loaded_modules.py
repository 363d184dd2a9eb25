"""Finds the files that this process imported a project's modules from."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping


def loaded_modules(names: Iterable[str]) -> dict[str, str]:
    """Return the file (or a namespace package's folder) of each named module imported here."""
    files = {}
    for name in names:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if file is None:
            file = next(iter(getattr(module, "__path__", ())), None)
        if file is not None:
            files[name] = str(file)
    return files


def labelled_as_engine(origins: Mapping[str, str]) -> dict[str, str]:
    """Label modules as the engine process's, as this process may have modules of the same names."""
    return {f"{name} (in the engine's process)": file for name, file in origins.items()}
