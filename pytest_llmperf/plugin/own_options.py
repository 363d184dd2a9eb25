"""The options that a project's own ``conftest.py`` adds, as they were given to this session."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = frozenset({"store_true", "store_false", "store_const", "append_const"})


def own_options(config: pytest.Config) -> list[str]:
    """Return command line arguments that give another session the values of these options.

    What pytest or an installed plugin defines is left out: such options may write files
    or decide how a session runs, and are not the project's to say what its tests do.
    """
    return [
        argument
        for plugin in config.pluginmanager.get_plugins()
        if Path(str(getattr(plugin, "__file__", None))).name == "conftest.py"
        and hasattr(plugin, "pytest_addoption")
        for names, attrs in _options_of(config, plugin.pytest_addoption)
        for argument in _arguments(config, names, attrs)
    ]


class _Listener:
    """Stands for pytest's parser and takes down what is added to it."""

    def __init__(self) -> None:
        self.added: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def addoption(self, *names: str, **attrs: Any) -> None:
        """Take an option down."""
        self.added.append((names, attrs))

    def getgroup(self, *_names: object, **_attrs: object) -> _Listener:
        """Groups are for help texts only."""
        return self

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_kwargs: None


def _options_of(
    config: pytest.Config, hook: Callable[..., None]
) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    listener = _Listener()
    offered = {"parser": listener, "pluginmanager": config.pluginmanager}
    wanted = inspect.signature(hook).parameters
    hook(**{name: value for name, value in offered.items() if name in wanted})
    return listener.added


def _arguments(
    config: pytest.Config, names: tuple[str, ...], attrs: dict[str, Any]
) -> Iterator[str]:
    """Yield the arguments that set one option to this session's value; none for its default."""
    long = [name for name in names if name.startswith("--")]
    if not long:
        return
    dest = attrs.get("dest") or long[0].lstrip("-").replace("-", "_")
    value, action = config.getoption(dest, None), attrs.get("action", "store")
    usual = {"store_true": False, "store_false": True}.get(action)
    if value == attrs.get("default", usual):
        return
    if action in _FLAGS:
        yield long[0]
    elif action == "count":
        yield from [long[0]] * int(value - (attrs.get("default") or 0))
    elif action == "append" or "nargs" not in attrs:
        for one in value if isinstance(value, list) else [value]:
            yield f"{long[0]}={one}"
    else:
        yield long[0]
        yield from map(str, value if isinstance(value, list) else [value])
