"""Reads YAML strictly, and records the line of every key.

Plain values mean what people expect. YAML 1.1 reads ``01000`` as 512, ``1:30`` as 90 and ``no``
as false; YAML 1.2 and editors do not. Numbers that the two versions read differently are
refused, and words stay words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pytest_llmperf.config.errors import ConfigError, Problem

#: Far above any real configuration, so that parsing a wrong file does not take minutes.
MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32

KeyPath = tuple[str | int, ...]

_INT, _FLOAT, _BOOL, _STR = map("tag:yaml.org,2002:{}".format, ("int", "float", "bool", "str"))
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_NUMBERS = (
    (_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?(0|[1-9][0-9_]*|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
    (
        _FLOAT,
        r"[-+]?(([0-9][0-9_]*)?\.[0-9][0-9_]*|[0-9][0-9_]*\.)([eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
_WORDS = {"yes": True, "on": True, "no": False, "off": False}


@dataclass
class Document:
    """A parsed file: plain values, and the line (from 1) of every key and list item."""

    value: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)


class YesOrNo(str):
    """``yes``, ``no``, ``on`` or ``off`` without quotes: a word, or a flag if one is expected."""

    __slots__ = ()


class _RefusedError(yaml.MarkedYAMLError):
    """Well-formed YAML that this package does not accept."""


def _refuse(text: str, mark: yaml.Mark | None) -> _RefusedError:
    return _RefusedError(problem=text, problem_mark=mark)


def _set_resolvers(loader: type[yaml.SafeLoader]) -> None:
    """Make a loader interpret plain values by the rules above."""
    replaced = {_INT, _FLOAT, _BOOL}
    loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in replaced]
        for first, known in loader.yaml_implicit_resolvers.items()
    }
    for tag, pattern, first in _NUMBERS:
        whole = re.compile(f"(?:{pattern})$")
        loader.add_implicit_resolver(tag, whole, list(first))


class _Loader(yaml.SafeLoader):
    """A safe loader without aliases (a few lines of them can expand to gigabytes)."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self._mark()
            raise _refuse("YAML aliases (*name) are not accepted here; repeat the value", mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self._mark()
            raise _refuse(f"nested more than {MAX_DEPTH} levels deep", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def _mark(self) -> Any:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        return event.start_mark


_set_resolvers(_Loader)


def read_document(path: Path, shown: str) -> Document:
    """Return the file's content, parsed; ``shown`` is the file's name in messages.

    Raises:
        ConfigError: the file is unreadable, too large, not UTF-8, not YAML, empty, not a
            mapping, or has a duplicate key.
    """
    document = parse_document(read_bytes(path, shown), shown)
    if document is None:
        hint = "it is empty; write an llm: or a perf: section, or remove the file"
        raise ConfigError([Problem(shown, f"{hint} to use the defaults")])
    return document


def parse_document(content: bytes, shown: str) -> Document | None:
    """Return a file's content, parsed; None if it holds nothing but comments.

    Raises:
        ConfigError: as ``read_document``.
    """
    text = _decoded(content, shown)
    document = Document({})
    try:
        value = _load(text, document.lines)
    except yaml.YAMLError as error:
        raise ConfigError([_problem(error, text, shown)]) from None
    if value is None:
        return None
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        wanted = "expected a mapping with the sections llm: and perf:"
        raise ConfigError([Problem(f"{shown}:1", f"{wanted}, got {kind}")])
    document.value = value
    return document


def read_value(text: str, where: str, order: tuple[int, int]) -> Any:
    """Return the value of a text from outside a file, by the same rules.

    Raises:
        ConfigError: the text is not YAML.
    """
    try:
        return _load(text, {})
    except yaml.YAMLError as error:
        problem = _problem(error, text, "").text
        hint = "" if isinstance(error, _RefusedError) else "; put quotes around plain text"
        raise ConfigError([Problem(where, f"{problem}{hint}", order=order)]) from None


def parse(content: bytes) -> dict[str, Any]:
    """Return a configuration's content without error messages; {} if it can't be parsed."""
    try:
        value = _load(content.decode("utf-8"), {})
    except (UnicodeDecodeError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def as_flag(value: object) -> object:
    """Return the flag for an unquoted ``yes``, ``no``, ``on`` or ``off``; else the same value."""
    return _WORDS[value.lower()] if isinstance(value, YesOrNo) else value


def compose(text: str) -> yaml.Node | None:
    """Return the nodes of a document that ``parse_document`` accepts, with their positions."""
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def read_bytes(path: Path, shown: str) -> bytes:
    """Return a file's content.

    Raises:
        ConfigError: it is unreadable, not a regular file, or larger than any configuration.
    """
    try:
        if path.exists() and not path.is_file():
            kind = "is a directory" if path.is_dir() else "is not a regular file"
            raise ConfigError([Problem(shown, f"{kind}; expected a YAML file")])
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([Problem(shown, "no such file")]) from None
    except OSError as error:
        raise ConfigError([Problem(shown, f"cannot be read: {error.strerror}")]) from None
    if len(data) > MAX_BYTES:
        text = "larger than 1 MiB, which no configuration is; is this the right file?"
        raise ConfigError([Problem(shown, text)])
    return data


def _decoded(data: bytes, shown: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        text = f"not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        raise ConfigError([Problem(f"{shown}:{line}", text)]) from None


def _load(text: str, lines: dict[KeyPath, int]) -> Any:
    """Return the plain value of a YAML document, and add its keys' lines to ``lines``."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _construct(loader, node, (), lines)
    finally:
        loader.dispose()


def _construct(loader: _Loader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        return _construct_mapping(loader, node, path, lines)
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        items = []
        for index, child in enumerate(node.value):
            child_path = (*path, index)
            lines[child_path] = child.start_mark.line + 1
            items.append(_construct(loader, child, child_path, lines))
        return items
    if not isinstance(node, yaml.ScalarNode):
        raise _refuse(f"the tag {node.tag} is not accepted here", node.start_mark)
    return _scalar(loader, node)


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> Any:
    if refusal := _refusal(node):
        raise _refuse(refusal, node.start_mark)
    if (word := _word(node)) is not None:
        return word
    try:
        return loader.construct_object(node)
    except (ValueError, OverflowError):
        # A date that does not exist, or a number with more digits than Python reads.
        raise _refuse(
            "this value cannot be read; put quotes around text", node.start_mark
        ) from None


def _refusal(node: yaml.ScalarNode) -> str:
    """Return the reason if YAML versions read a value differently, so it is refused; else empty."""
    plain = node.style is None and node.tag == _STR
    if not plain and node.tag not in (_INT, _FLOAT):
        return ""
    text: str = node.value
    if _LEADING_ZERO.fullmatch(text):
        number = text.replace("_", "").lstrip("+-0") or "0"
        return (
            f"{text} begins with a zero, which some YAML readers take for an octal number; write "
            f"{'-' * text.startswith('-')}{number}, or put quotes around it if it is text"
        )
    if _BASE_60.fullmatch(text):
        return (
            f"{text} is a number in base 60 to some YAML readers and text to others; write a "
            "duration with its unit, such as 90s, or put quotes around it if it is text"
        )
    return ""


def _word(node: yaml.ScalarNode) -> YesOrNo | None:
    """Return a word that YAML 1.1 reads as true or false; None for other values."""
    plain = node.style is None and node.tag == _STR
    return YesOrNo(node.value) if plain and node.value.lower() in _WORDS else None


def _construct_mapping(
    loader: _Loader, node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        mark = key_node.start_mark
        if key_node.tag == "tag:yaml.org,2002:merge":
            raise _refuse("YAML merge keys (<<) are not accepted here; repeat the values", mark)
        key = _scalar(loader, key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise _refuse("a key must be plain text; put quotes around it", mark)
        child = (*path, key)
        if key in result:
            where = ".".join(map(str, child))
            raise _refuse(f"{where}: duplicate key, first on line {lines[child]}", mark)
        lines[child] = mark.line + 1
        result[key] = _construct(loader, value_node, child, lines)
    return result


def _problem(error: yaml.YAMLError, text: str, shown: str) -> Problem:
    """Return a readable problem for ``error``, with its line."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        words = f"the character U+{int(error.character):04X} is not allowed in YAML"
        return Problem(f"{shown}:{line}", words)
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(shown, f"not valid YAML: {error}")
    mark = error.problem_mark or error.context_mark
    where = f"{shown}:{mark.line + 1}" if mark is not None else shown
    if isinstance(error, _RefusedError):
        return Problem(where, str(error.problem))
    if error.problem is not None and r"'\t'" in error.problem:
        return Problem(where, "a tab indents this line; YAML takes spaces only")
    context = f" ({error.context})" if error.context else ""
    return Problem(where, f"not valid YAML{context}: {error.problem}")
