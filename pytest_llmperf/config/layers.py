"""The layers of the configuration: the file, overridden by environment, then command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_llmperf.config.errors import ConfigError, Problem
from pytest_llmperf.config.llm_section import DEFAULT_ENGINE, LLM_FIELDS, llm_schema
from pytest_llmperf.config.yaml_file import Document, KeyPath, read_value
from pytest_llmperf.system_path import typed_text

_PREFIX = "LLMPERF_"
#: Numbers of the layers, in the order in which they apply.
_FILE, _ENVIRONMENT, _COMMAND_LINE = range(3)
_SECTIONS = ("llm", "perf", "quality", "tune")
#: One underscore after the section instead of two: an easy mistake, and silent if ignored.
_NEAR_MISS = re.compile(r"LLMPERF_(LLM|PERF|QUALITY|TUNE)_(?!_)(.+)", re.IGNORECASE)


@dataclass(frozen=True)
class SettingOrigin:
    """The layer that set a key.

    Attributes:
        where: name of the layer, or file and line, for messages.
        order: (layer, line), for sorting.
        names_key: ``where`` already contains the key.
    """

    where: str
    order: tuple[int, int] = (0, 0)
    names_key: bool = False


class Layers:
    """The values merged so far (``tree``); later layers override earlier ones."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self._origins: dict[KeyPath, SettingOrigin] = {}
        self._file = "configuration"

    def add_document(self, document: Document, shown: str) -> None:
        """Add a file's values; a section that holds only comments counts as absent."""
        self._file = shown
        self.tree = {
            key: {} if value is None and key in _SECTIONS else value
            for key, value in document.value.items()
        }
        for path, line in document.lines.items():
            self._origins[path] = SettingOrigin(f"{shown}:{line}", (_FILE, line))

    def add_environment(self, environ: Mapping[str, str]) -> list[Problem]:
        """Add ``LLMPERF_<SECTION>__<KEY>`` variables; return problems with their names."""
        problems: list[Problem] = []
        for position, name in enumerate(sorted(environ)):
            upper = name.upper()
            if not upper.startswith(_PREFIX):
                continue
            origin = SettingOrigin(f"environment {name}", (_ENVIRONMENT, position), names_key=True)
            keys = upper.removeprefix(_PREFIX).lower().split("__")
            if len(keys) == 1:
                if miss := _NEAR_MISS.fullmatch(name):
                    meant = f"LLMPERF_{miss[1]}__{miss[2]}".upper()
                    text = f"two underscores follow the section; did you mean {meant}?"
                    problems.append(Problem(origin.where, text, order=origin.order))
                continue
            problems += self._assign_text(keys, environ[name], origin)
        return problems

    def add_overrides(self, overrides: Sequence[str]) -> list[Problem]:
        """Add ``section.key=value`` arguments; return problems with their form."""
        problems: list[Problem] = []
        for position, override in enumerate(overrides):
            dotted, equals, text = override.partition("=")
            dotted = dotted.strip()
            origin = SettingOrigin(
                f"--llmperf-set {dotted}", (_COMMAND_LINE, position), names_key=True
            )
            if not equals:
                words = "expected section.key=value such as llm.n_batch=512"
                problems.append(Problem(origin.where, words, order=origin.order))
                continue
            problems += self._assign_text(dotted.split("."), text, origin)
        return problems

    def add_changes(self, changes: Mapping[str, Any]) -> None:
        """Add values that are to be written into the file, by dotted key."""
        for position, (dotted, value) in enumerate(changes.items()):
            origin = SettingOrigin(
                f"new value of {dotted}", (_COMMAND_LINE, position), names_key=True
            )
            self._assign(tuple(dotted.split(".")), value, origin)

    def _assign_text(self, keys: Sequence[str], text: str, origin: SettingOrigin) -> list[Problem]:
        if keys[0] not in _SECTIONS or len(keys) < 2 or not all(keys):
            words = "expected a key of the section llm, perf, quality or tune, such as llm.n_batch"
            return [Problem(origin.where, words, order=origin.order)]
        typed = typed_text(text)
        if typed is None:
            words = "the value is not UTF-8; type it as UTF-8, or set the key in the file"
            return [Problem(origin.where, words, order=origin.order)]
        try:
            value = read_value(typed, origin.where, origin.order)
        except ConfigError as error:
            return list(error.problems)
        self._assign(tuple(keys), value, origin)
        return []

    def _assign(self, path: tuple[str, ...], value: Any, origin: SettingOrigin) -> None:
        node = self.tree
        replaced = path
        for depth, key in enumerate(path[:-1], start=1):
            child = node.get(key)
            if not isinstance(child, dict):
                child = node[key] = {}
                replaced = min(replaced, path[:depth], key=len)
            node = child
        node[path[-1]] = value
        for known in [known for known in self._origins if known[: len(replaced)] == replaced]:
            del self._origins[known]
        self._origins[path] = origin

    def origin(self, path: KeyPath) -> SettingOrigin:
        """Return the layer that set ``path``, else the layer of a child, else of a parent."""
        if found := self._origins.get(path):
            return found
        below = [origin for known, origin in self._origins.items() if known[: len(path)] == path]
        if below:
            return replace(below[-1], names_key=False)
        for length in range(len(path) - 1, 0, -1):
            if found := self._origins.get(path[:length]):
                return replace(found, names_key=False)
        return SettingOrigin(self._file)

    def provenance(self) -> dict[str, str]:
        """Return dotted key -> layer for every value that is set, in the tree's order."""
        origins: dict[str, str] = {}

        def visit(value: Any, path: tuple[str, ...]) -> None:
            if isinstance(value, dict) and value:
                for key, child in value.items():
                    visit(child, (*path, key))
            elif len(path) > 1:
                origins[".".join(path)] = self.origin(path).where

        visit(self.tree, ())
        return origins

    def settle_engine(self) -> None:
        """Remove settings that the engine does not have, unless they look like mistakes.

        An environment variable is meant for every engine that has its setting, and a layer that
        names the engine (``--llmperf-set llm.engine=app``) overrides lower layers' settings for
        another engine. Any other such key stays, and is refused.
        """
        section = self.tree.get("llm")
        if not isinstance(section, dict):
            return
        named = self.origin(("llm", "engine")).order[0] if "engine" in section else 0
        own = llm_schema(section.get("engine", DEFAULT_ENGINE)).model_fields
        for key in [key for key in section if key in LLM_FIELDS and key not in own]:
            layer = self.origin(("llm", key)).order[0]
            if layer < named or layer == _ENVIRONMENT:
                del section[key]
                for known in [path for path in self._origins if path[:2] == ("llm", key)]:
                    del self._origins[known]
