"""Where this process got a project's modules from."""

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


def in_engine(origins: Mapping[str, str]) -> dict[str, str]:
    """Tell modules of an engine's process from those of the same name in this one."""
    return {f"{name} (in the engine's process)": file for name, file in origins.items()}
