"""The options that a project's own ``conftest.py`` adds, as they were given to this session."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pytest_llmperf.plugin.usage import usage_error

#: What argparse makes of an option, and of how many words. The rest is about its value.
_SHAPE = ("action", "nargs", "const", "default", "dest")
_GIVEN = "given"
_FILE_PREFIX = "@"


def own_options(config: pytest.Config) -> list[str]:
    """Return the words of this session's command line that give these options.

    As they were typed: a value that an option's ``type`` made of them can't be typed
    again. What the environment (``PYTEST_ADDOPTS``) and the settings (``addopts``) give
    holds in another session by itself. What pytest or an installed plugin defines is left
    out: such options may write files or decide how a session runs, and are not the
    project's to say what its tests do.
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


class _WrongError(Exception):
    """argparse can't read the command line."""


class _Parser(argparse.ArgumentParser):
    """A parser that knows nothing but what is added, and never ends the process."""

    def __init__(self, *, files: bool = False) -> None:
        super().__init__(
            add_help=False,
            allow_abbrev=False,
            fromfile_prefix_chars=_FILE_PREFIX if files else None,
        )

    def error(self, message: str) -> NoReturn:
        """Raise what would have been printed."""
        raise _WrongError(message)


class _Keep(argparse.Action):
    """Keeps the words of an option in the order in which they were given."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Take one occurrence down."""
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
    """Return the words that argparse would give to the options."""
    # As pytest does since 8.2; what is no file was a path to an older one.
    files = [word[1:] for word in words if word.startswith(_FILE_PREFIX)]
    parser = _Parser(files=bool(files) and all(map(os.path.isfile, files)))
    for names, attrs in added:
        # argparse itself says how many words an action of whatever class takes.
        shape = {key: value for key, value in attrs.items() if key in _SHAPE}
        known = _Parser().add_argument(*names, **shape)
        parser._add_action(_Keep(known.option_strings, argparse.SUPPRESS, nargs=known.nargs))
    given = argparse.Namespace(**{_GIVEN: []})
    try:
        parser.parse_known_args(list(words), given)
    except _WrongError as error:
        raise usage_error(f"the options of conftest.py: {error}") from None
    found: list[str] = getattr(given, _GIVEN)
    return found
