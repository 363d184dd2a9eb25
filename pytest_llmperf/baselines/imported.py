"""The origin of a session that another tool measured: tool, files, and what the user stated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pytest_llmperf.stored_json import LEFT_OUT, Stored, expect

#: The keys of machines that imported sessions are stored under start like this, and no others do.
KEY_PREFIX = "imported-"
_SHORT = 12


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


Digest = Annotated[str, expect("64 hexadecimal digits", _is_digest)]


@dataclass(frozen=True)
class SourceFile(Stored):
    """A result file that was imported: its name without folders, and the SHA-256 of its content."""

    name: str
    sha256: Digest

    def __str__(self) -> str:
        return f"{self.name} (SHA-256 {self.sha256[:_SHORT]})"


@dataclass(frozen=True)
class ImportOrigin(Stored):
    """Where an imported session comes from.

    Attributes:
        tool: the tool that measured.
        version: the tool's; empty if its file does not say.
        files: the files that the runs come from.
        runs: a digest of each run as the file has it, by which it is recognised later.
        notes: what the files do not say, and what the user stated instead.
    """

    tool: str
    version: str
    files: tuple[SourceFile, ...]
    runs: tuple[Digest, ...]
    notes: tuple[str, ...] = field(default=(), metadata=LEFT_OUT)

    @property
    def label(self) -> str:
        """The tool and its version for a reader."""
        return f"{self.tool} {self.version}".strip()

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.files[:3]))
        more = f" and {len(self.files) - 3} more files" if len(self.files) > 3 else ""
        return f"imported from {self.label}: {shown}{more}"
