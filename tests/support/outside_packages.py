"""Simulated installed packages that extend the plugin: folders with metadata to import from."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

ENGINES = "pytest_llmperf.engines"
METRICS = "pytest_llmperf.metrics"


def install(
    monkeypatch: pytest.MonkeyPatch,
    site: Path,
    name: str,
    group: str,
    entries: dict[str, str],
    **modules: str,
) -> None:
    """Put a package with these entry points and modules on every process's import path."""
    metadata = site / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for module, source in modules.items():
        (site / f"{module}.py").write_text(dedent(source))
    monkeypatch.syspath_prepend(site)
    # Engine processes find it too.
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
