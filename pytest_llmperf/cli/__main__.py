"""Runs the command line as ``python -m pytest_llmperf.cli``."""

from __future__ import annotations

import sys

from pytest_llmperf.cli import main

sys.exit(main())
