"""Text of a command's ``--help``: line breaks and exit statuses."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

from pytest_llmperf.text import wrap_words

#: A line of a list: a term, two spaces or more, and its explanation.
_ITEM = re.compile(r"(?P<term>\s*\S+(?: \S+)*\s{2,})(?P<words>\S.*)")


class HelpFormatter(argparse.HelpFormatter):
    """Breaks descriptions and epilogs at the terminal's width, but keeps paragraphs and lists.

    A line indented as far as the explanation above it continues that explanation. Other indented
    lines, such as an example's command, are left unchanged.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for first, words, hang in _passages(text):
            lines += wrap_words(words, width, hang, first) if words else [first]
        return "\n".join(indent + line for line in lines)


def exit_status_text(meanings: Mapping[int, str]) -> str:
    """Return the lines that explain a command's exit statuses."""
    return "\n".join(["exit status:", *(f"  {code:<4}{text}" for code, text in meanings.items())])


def _passages(text: str) -> list[tuple[str, str, str]]:
    """Split a text into passages: start of the first line, words, indent of the next lines."""
    passages: list[tuple[str, str, str]] = []
    for line in text.splitlines():
        words = line.lstrip()
        lead = line[: len(line) - len(words)]
        first, before, hang = passages[-1] if passages else ("", "", "")
        if before and words and lead == hang and not before.endswith(":"):
            passages[-1] = (first, f"{before} {words}", hang)
        elif lead and (item := _ITEM.fullmatch(line)) is not None:
            passages.append((item["term"], item["words"], " " * len(item["term"])))
        else:
            passages.append((line, "", "") if lead or not words else ("", words, ""))
    return passages
