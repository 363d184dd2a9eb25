"""Interprets plain YAML values as people mean them, not as YAML 1.1 reads some of them.

YAML 1.1 takes ``01000`` for 512, ``1:30`` for 90 and ``no`` for false; YAML 1.2 does not, nor do
editors. Numbers that the two read differently are refused, and words stay words.
"""

from __future__ import annotations

import re

import yaml

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


class YesOrNo(str):
    """``yes``, ``no``, ``on`` or ``off`` without quotes: a word, or a flag if one is expected."""

    __slots__ = ()


def set_resolvers(loader: type[yaml.SafeLoader]) -> None:
    """Make a loader interpret plain values by this module's rules."""
    replaced = {_INT, _FLOAT, _BOOL}
    loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in replaced]
        for first, known in loader.yaml_implicit_resolvers.items()
    }
    for tag, pattern, first in _NUMBERS:
        whole = re.compile(f"(?:{pattern})$")
        loader.add_implicit_resolver(tag, whole, list(first))


def refusal(node: yaml.ScalarNode) -> str:
    """Return why a value is refused because YAML versions read it differently; else empty."""
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


def word(node: yaml.ScalarNode) -> YesOrNo | None:
    """Return a word that YAML 1.1 takes for true or false; None for other values."""
    plain = node.style is None and node.tag == _STR
    return YesOrNo(node.value) if plain and node.value.lower() in _WORDS else None


def as_flag(value: object) -> object:
    """Return the flag that such a word means; any other value unchanged."""
    return _WORDS[value.lower()] if isinstance(value, YesOrNo) else value
