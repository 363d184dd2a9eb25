"""Changes single values in the text of a YAML document; all other characters stay.

Positions come from PyYAML's nodes. Round-trip libraries change more than requested:
ruamel.yaml 0.19 writes ``null`` as nothing, joins the spaces of aligned columns, normalises
indentation, and puts a new last key below the comment of the next section.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.config.yaml_file import compose, read_value

_INDENT = 2
_PLAIN = re.compile(r"[\w./~][\w./~@:+ -]*")
_COMMENT_LINE = re.compile(r"([ \t]*)#[^\n]*(?:\n|$)")


def set_value(text: str, path: Sequence[str], value: Any, order: Sequence[str] = ()) -> str:
    """Return the document with one value changed or added.

    Args:
        text: a document that ``parse_document`` accepts.
        path: path of the key; missing mappings above it are added.
        value: new value, as plain JSON.
        order: the usual order of the section's keys: a new key is put after the nearest existing
            key before it in this order, or at the end of its mapping if there is none.
    """
    node = compose(text)
    if not isinstance(node, yaml.MappingNode):
        return _with_lines(text, len(text), 0, _lines(text, path[0], _nested(path[1:], value), 0))
    for depth, key in enumerate(path):
        rest = _nested(path[depth + 1 :], value)
        pair = _find(node, key)
        if pair is None:
            return _add(text, node, key, rest, order)
        child = pair[1]
        if depth < len(path) - 1 and isinstance(child, yaml.MappingNode):
            node = child
        elif isinstance(rest, Mapping) and _is_null(child) and not node.flow_style:
            return _fill(text, pair, rest)
        else:
            return _replace(text, pair, rest)
    raise AssertionError("an empty path")


def yaml_text(value: Any) -> str:
    """Return plain JSON as YAML on one line; this package reads it back as the same value."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{yaml_text(k)}: {yaml_text(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, str):
        return value if _is_plain(value) else _quoted(value)
    if isinstance(value, float):
        # To YAML 1.1, 1e-05 is text.
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
    return json.dumps(value)


def _quoted(text: str) -> str:
    """Return text in double quotes, with YAML escapes for characters that can't be printed."""
    written = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in written)


def _is_plain(text: str) -> bool:
    """Whether text needs no quotes, not even in a list."""
    if not _PLAIN.fullmatch(text) or text.endswith((" ", ":")) or ": " in text:
        return False
    try:
        value = read_value(text, "", (0, 0))
    except ConfigError:
        return False
    return type(value) is str and value == text


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _find(node: yaml.MappingNode, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next((pair for pair in node.value if pair[0].value == key), None)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _end(text: str, node: yaml.Node) -> int:
    """Return the end of a node's own text; PyYAML ends block collections at the next token."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(node, yaml.MappingNode) else last)
    start, end = node.start_mark.index, node.end_mark.index
    return max(start, len(text[:end].rstrip()))


def _line_end(text: str, position: int) -> int:
    """Return the start of the next line."""
    newline = text.find("\n", position)
    return len(text) if newline < 0 else newline + 1


def _replace(text: str, pair: tuple[yaml.Node, yaml.Node], value: Any) -> str:
    key, child = pair
    new, end = yaml_text(value), _end(text, child)
    if isinstance(child, yaml.CollectionNode) and not child.flow_style:
        # Remove the value's lines, but keep a comment beside the key.
        colon = text.index(":", key.end_mark.index) + 1
        first = child.value[0]
        inside = first[0] if isinstance(child, yaml.MappingNode) else first
        line = text.rfind("\n", 0, inside.start_mark.index) + 1
        between = _aligned(f" {new}", text[colon:line], 0)
        return text[:colon] + between + text[_line_end(text, end) :]
    start = child.start_mark.index
    if start == end and text[start - 1] == ":":
        new = f" {new}"
    return text[:start] + _aligned(new, text[end:], end - start)


def _aligned(new: str, after: str, old_length: int) -> str:
    """Return a new value and what follows it; a comment behind it keeps its column."""
    gap = len(after) - len(after.lstrip(" "))
    if after[gap : gap + 1] != "#":
        return new + after
    return new + " " * max(min(gap, 2), gap - (len(new) - old_length)) + after[gap:]


def _add(text: str, node: yaml.MappingNode, key: str, value: Any, order: Sequence[str]) -> str:
    """Add a key to a mapping."""
    if node.flow_style or not node.value:
        added = f"{yaml_text(key)}: {yaml_text(value)}"
        if not node.value:
            start = text.index("{", node.start_mark.index) + 1
            return text[:start] + added + text[start:]
        end = _end(text, node.value[-1][1])
        return f"{text[:end]}, {added}{text[end:]}"
    pairs = {pair[0].value: pair for pair in node.value}
    earlier = order[: order.index(key)] if key in order else ()
    before = next((pairs[name] for name in reversed(earlier) if name in pairs), node.value[-1])
    column = node.value[0][0].start_mark.column
    return _with_lines(text, _end(text, before[1]), column, _lines(text, key, value, column))


def _fill(text: str, pair: tuple[yaml.Node, yaml.Node], value: Mapping[str, Any]) -> str:
    """Add keys to a section that has none, but may have comments."""
    key, child = pair
    start, end = child.start_mark.index, _end(text, child)
    text = (text[:start].rstrip(" ") if start < end else text[:start]) + text[end:]
    start = min(start, text.index(":", key.end_mark.index) + 1)
    comment = _COMMENT_LINE.match(text, _line_end(text, start))
    column = key.start_mark.column
    inside = len(comment[1]) if comment else 0
    inside = inside if inside > column else column + _indent(text)
    lines = [f"{' ' * inside}{yaml_text(name)}: {yaml_text(item)}" for name, item in value.items()]
    return _with_lines(text, start, column, lines)


def _indent(text: str) -> int:
    """Return the indentation of keys in the document's sections."""
    root = compose(text)
    for _, child in root.value if isinstance(root, yaml.MappingNode) else ():
        if isinstance(child, yaml.MappingNode) and not child.flow_style and child.value:
            return max(1, int(child.value[0][0].start_mark.column))
    return _INDENT


def _lines(text: str, key: str, value: Any, column: int) -> list[str]:
    """Return the lines of a new key; only sections take several lines."""
    lead = " " * column
    if column or not isinstance(value, Mapping) or not value:
        return [f"{lead}{yaml_text(key)}: {yaml_text(value)}"]
    inside = " " * _indent(text)
    return [f"{key}:", *(f"{inside}{yaml_text(k)}: {yaml_text(v)}" for k, v in value.items())]


def _with_lines(text: str, position: int, column: int, lines: Sequence[str]) -> str:
    """Insert lines below a position's line and the comments that belong to it.

    Such comments are indented further than ``column``.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    position = _line_end(text, position)
    while (comment := _COMMENT_LINE.match(text, position)) and len(comment[1]) > column:
        position = comment.end()
    added = newline.join(lines)
    if position == len(text) and text.rstrip("\ufeff") and not text.endswith("\n"):
        return f"{text}{newline}{added}"
    return f"{text[:position]}{added}{newline}{text[position:]}"
