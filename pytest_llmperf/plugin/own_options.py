"""Finds the options of a project's own ``conftest.py`` on this session's command line."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pytest_llmperf.plugin.options import usage_error

#: Attributes that decide how many words an option takes; the others concern its value.
_SHAPE = ("action", "nargs", "const", "default", "dest")
_GIVEN = "given"
_FILE_PREFIX = "@"


def own_options(config: pytest.Config) -> list[str]:
    """Return the words of this session's command line that set the project's own options.

    They are returned as typed, since a value converted by an option's ``type`` can't be typed
    again. Options from the environment (``PYTEST_ADDOPTS``) and the settings (``addopts``) apply
    to another session anyway. Options of pytest or an installed plugin are left out: they may
    write files or decide how a session runs, and do not define the project's tests.
    """
    added = [
        option
        for plugin in config.pluginmanager.get_plugins()
        if Path(str(getattr(plugin, "__file__", None))).name == "conftest.py"
        and hasattr(plugin, "pytest_addoption")
        for option in _options_of(config, plugin.pytest_addoption)
    ]
    words = [os.fspath(word) for word in config.invocation_params.args]
    return _picked(words, added) if added else []


class _Listener:
    """A substitute for pytest's parser that records added options."""

    def __init__(self) -> None:
        self.added: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def addoption(self, *names: str, **attrs: Any) -> None:
        """Record an option."""
        self.added.append((names, attrs))

    def getgroup(self, *_names: object, **_attrs: object) -> _Listener:
        """Return this parser, as groups only affect help texts."""
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


class _WrongError(Exception):
    """argparse can't read the command line."""


class _Parser(argparse.ArgumentParser):
    """A parser without built-in options that never ends the process."""

    def __init__(self, *, files: bool = False) -> None:
        super().__init__(
            add_help=False,
            allow_abbrev=False,
            fromfile_prefix_chars=_FILE_PREFIX if files else None,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the message instead of printing it."""
        raise _WrongError(message)


class _Keep(argparse.Action):
    """Collects the words of an option in the order in which they were given."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Record one occurrence."""
        getattr(namespace, _GIVEN).extend(_words(str(option_string), values))


def _words(name: str, values: str | Sequence[Any] | None) -> Iterator[str]:
    if not isinstance(values, str):
        yield name
        yield from map(str, values or ())
    elif name.startswith("--"):
        # One word: the value may begin with a dash.
        yield f"{name}={values}"
    else:
        yield from (name, values)


def _picked(
    words: Sequence[str], added: Sequence[tuple[tuple[str, ...], dict[str, Any]]]
) -> list[str]:
    """Return the words that argparse would assign to the options."""
    # As in pytest since 8.2; in older versions a word such as @x that names no file was a path.
    files = [word[1:] for word in words if word.startswith(_FILE_PREFIX)]
    parser = _Parser(files=bool(files) and all(map(os.path.isfile, files)))
    for names, attrs in added:
        # argparse itself determines how many words an action takes.
        shape = {key: value for key, value in attrs.items() if key in _SHAPE}
        known = _Parser().add_argument(*names, **shape)
        parser._add_action(_Keep(known.option_strings, argparse.SUPPRESS, nargs=known.nargs))
    given = argparse.Namespace(**{_GIVEN: []})
    try:
        parser.parse_known_args(list(words), given)
    except _WrongError as error:
        raise usage_error(f"the options of conftest.py: {error}") from None
    picked: list[str] = getattr(given, _GIVEN)
    return picked
