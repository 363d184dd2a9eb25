"""Recorded outputs in the documentation use the words that the code prints today.

Numbers, names and hashes differ from run to run, words do not. So the texts of the package must
have every four consecutive words of a recorded line, or three where only three stand together.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from doc_blocks import ROOT, Block, blocks

#: Texts in recorded outputs that do not come from this package.
FOREIGN = (
    # pytest, the loader of libraries, a test's own assertion
    "ERROR at setup of",
    "Failed to load shared library",
    "No such file or directory",
    "the answer does not name the country",
    # subjects of commits
    "A chat with perf tests",
    "Describe the project",
    "Serve with one slot",
    "Use less memory",
    # commits, devices, backends, folders
    "HEAD",
    "main",
    "merge-base",
    "AMD EPYC",
    "NVIDIA GeForce RTX",
    "CPU",
    "cuda",
    "/models of mine/",
    # a model
    "tiny all F32",
)
_MOST, _LEAST = 4, 3
_WORD = r"[A-Za-z][A-Za-z'-]*(?![\w/=])"
_RUN = re.compile(rf"(?<![\w./-]){_WORD}(?: {_WORD})*")
_FOREIGN = re.compile("|".join(rf"(?<!\w){re.escape(words)}(?!\w)" for words in FOREIGN))


def runs(text: str) -> Iterator[list[str]]:
    """Yield the words that stand together, without numbers, identifiers or punctuation between."""
    for run in _RUN.finditer(text):
        yield run[0].split(" ")


@dataclass(frozen=True)
class Texts:
    """The texts of the package; a text with placeholders counts as several.

    Attributes:
        inside: all sequences of three and of four words.
        first, last: the first and the last two and three words of each text.
    """

    inside: frozenset[str]
    first: frozenset[str]
    last: frozenset[str]

    def have(self, words: list[str]) -> bool:
        """Return whether a text has these words, or begins or ends with two or more of them."""
        return (
            " ".join(words) in self.inside
            or any(" ".join(words[:end]) in self.last for end in range(2, len(words)))
            or any(" ".join(words[start:]) in self.first for start in range(1, len(words) - 1))
        )

    def missing(self, line: str) -> list[str]:
        """Return the words of a recorded line that no text has."""
        unknown = []
        for words in runs(_FOREIGN.sub("|", line)):
            size = min(_MOST, len(words))
            if size >= _LEAST:
                parts = (words[start : start + size] for start in range(len(words) - size + 1))
                unknown += [" ".join(part) for part in parts if not self.have(part)]
        return unknown


def texts_of(sources: list[str]) -> Texts:
    """Collect the texts of modules, without their docstrings."""
    inside, first, last = set(), set(), set()
    for source in sources:
        nodes = list(ast.walk(ast.parse(source)))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if not isinstance(node, ast.Constant) or id(node) in docstrings:
                continue
            groups = list(runs(" ".join(str(node.value).split())))
            for words in groups:
                for size in (_LEAST, _MOST):
                    starts = range(len(words) - size + 1)
                    inside |= {" ".join(words[start : start + size]) for start in starts}
            for size in (2, 3) if groups else ():
                first.add(" ".join(groups[0][:size]))
                last.add(" ".join(groups[-1][-size:]))
    return Texts(frozenset(inside), frozenset(first), frozenset(last))


@pytest.fixture(scope="module")
def texts() -> Texts:
    files = (ROOT / "pytest_llmperf").rglob("*.py")
    return texts_of([file.read_text(encoding="utf-8") for file in files])


def recorded() -> list[Block]:
    return [block for block in blocks() if block.not_run.endswith("recorded")]


@pytest.mark.parametrize("block", recorded(), ids=lambda block: block.where)
def test_the_words_of_a_recorded_output_are_the_codes(block: Block, texts: Texts) -> None:
    lines = [line for line in block.text.splitlines() if not line.startswith("$ ")]
    assert {line: missing for line in lines if (missing := texts.missing(line))} == {}


def test_what_is_foreign_stands_somewhere() -> None:
    shown = "\n".join(block.text for block in recorded())
    assert [words for words in FOREIGN if words not in shown] == []


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("what changed since v1 (6c34fa7cfd7d) made it slower; to find the commit:", []),
        ("it is what changed since v1 (6c34fa7cfd7d) that cost it", ["that cost it"]),
        ("the search called 1 session bad (a false alarm: at most 1% each)", []),
        ("false alarms have a chance of at most 1%", ["alarms have a chance"]),
    ],
)
def test_words_that_the_code_no_longer_prints_are_found(line: str, missing: list[str]) -> None:
    code = """
def text(name, number):
    "A docstring: it is that cost it; false alarms have a chance of at most."
    yield f"what changed since {name} made it slower; to find the commit:"
    yield f"the search called {number} bad (a false alarm: at most {number} each)"
"""
    found = texts_of([code]).missing(line)
    assert set(missing) <= set(found)
    assert bool(missing) == bool(found)


def test_every_page_with_an_output_is_looked_at() -> None:
    pages = {Path(block.page).name for block in recorded()}
    assert {"README.md", "walkthrough.md", "bisect.md", "verdicts.md", "doctor.md"} <= pages
