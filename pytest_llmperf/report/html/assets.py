"""The script and style of the page and of its chart library, with their hashes.

uPlot (https://github.com/leeoniya/uPlot) is in ``vendor/uplot``, as in its npm package:
``vendored.json`` has the version, licence and SHA-256 of each file.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent
VENDORED = _FOLDER / "vendor" / "uplot"


@cache
def script() -> str:
    """Return the whole script: the chart library, the charts, then the page's script."""
    files = (VENDORED / "uPlot.iife.min.js", _FOLDER / "charts.js", _FOLDER / "page.js")
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@cache
def style() -> str:
    """Return the whole style sheet."""
    files = (VENDORED / "uPlot.min.css", _FOLDER / "page.css")
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def content_policy() -> str:
    """Return a content security policy that allows only the page's own script and style."""
    return (
        f"default-src 'none'; script-src {_hash(script())}; style-src {_hash(style())}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
