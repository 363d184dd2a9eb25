"""Build hook that makes the package's description, for a package index, from the README.

A package index shows only the README, so its relative links lead nowhere. They become links into
the repository, if ``[project.urls]`` names it (``Repository``); otherwise their text stays without
a link.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE_LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)")


def for_index(text: str, repository: str | None) -> str:
    """Return a README whose links work anywhere; ``repository`` is its address, if there is one."""
    if repository is None:
        return _RELATIVE_LINK.sub(r"\1", text)
    return _RELATIVE_LINK.sub(rf"[\1]({repository.rstrip('/')}/blob/HEAD/\2)", text)


class ReadmeHook(MetadataHookInterface):
    """Sets ``readme``, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the description to the metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": for_index(text, repository),
        }
