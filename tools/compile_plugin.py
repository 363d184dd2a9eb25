"""Compile the plugin's modules as pytest rewrites them, once for all sessions that tests start.

pytest rewrites every module of an installed plugin. Under PYTHONDONTWRITEBYTECODE it keeps none of
them, and each of the several hundred sessions of the test suite would spend seconds on them.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pytest_llmperf"
#: Modules that do their work when they are imported.
PROGRAMS = ("__main__", "bootstrap")


class Importer:
    """Plugin that imports all modules instead of running tests, while pytest rewrites imports."""

    def pytest_cmdline_main(self) -> int:
        """Import all modules, and run nothing."""
        for module in pkgutil.walk_packages([str(PACKAGE)], f"{PACKAGE.name}."):
            if not module.name.endswith(PROGRAMS):
                importlib.import_module(module.name)
        return 0


if __name__ == "__main__":
    sys.dont_write_bytecode = False
    sys.exit(pytest.main(["-p", "no:cacheprovider"], plugins=[Importer()]))
