"""The code blocks of the documentation, and what a comment before each says about running it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\s*$")
_NOTE = re.compile(r"^ *<!-- (?P<kind>not run|runs): (?P<text>.+?) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: path from the root of the repository.
        line: line of its fence.
        language: as the fence names it; may be empty.
        text: its content.
        runs: the project that it runs in, if a comment before it names one.
        not_run: why it is not run, if a comment before it says why.
    """

    page: str
    line: int
    language: str
    text: str
    runs: str = ""
    not_run: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every hand-written page of the documentation."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks() -> list[Block]:
    """Return every block of every page, except generated tables."""
    return [block for page in pages() for block in _blocks(page)]


def _blocks(page: Path) -> Iterator[Block]:
    name = page.relative_to(ROOT).as_posix()
    lines = page.read_text(encoding="utf-8").split("\n")
    generated = False
    note: re.Match[str] | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("<!-- generated: "):
            generated = True
        elif line == "<!-- end -->":
            generated = False
        fence = _FENCE.match(line)
        if fence is None:
            note = _NOTE.match(line) or (None if line.strip() else note)
            number += 1
            continue
        end = next(
            at for at in range(number + 1, len(lines)) if lines[at] == f"{fence['indent']}```"
        )
        if not generated:
            text = "\n".join(row.removeprefix(fence["indent"]) for row in lines[number + 1 : end])
            comment = {note["kind"]: note["text"]} if note else {}
            yield Block(name, number + 1, fence["language"], text + "\n",
                        comment.get("runs", ""), comment.get("not run", ""))  # fmt: skip
        note, number = None, end + 1


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the commands of a shell block as words, without redirections, variables, comments."""
    import shlex

    text = re.sub(r"<<'EOF'.*?^EOF$", "", block.text, flags=re.DOTALL | re.MULTILINE)
    typed = text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        typed = [line.removeprefix("$ ") for line in typed if line.startswith("$ ")]
    for line in typed:
        for part in re.split(r"&&|;|\|", line.partition(" #")[0] if " #" in line else line):
            words = shlex.split(part.partition(" > ")[0], comments=True)
            while words and re.fullmatch(r"[A-Z_a-z]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with these variables and without this session's of git."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        command,
        cwd=folder,
        env={**inherited, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
