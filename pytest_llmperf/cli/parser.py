"""Argument parser of the command line; shows help for a command without its subcommand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any


class CommandParser(argparse.ArgumentParser):
    """Parser that prints its help and exits with 2 if a required subcommand is missing.

    Parsers of subcommands also have this class, because argparse uses their parent's.
    """

    _has_commands = False

    def add_subparsers(self, **options: Any) -> Any:
        """Add subcommands like argparse, and remember that there are some."""
        self._has_commands = True
        return super().add_subparsers(**options)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse like argparse, but print help if a subcommand is needed and nothing is given."""
        arguments = sys.argv[1:] if args is None else list(args)
        if self._has_commands and not arguments:
            self.print_help(sys.stderr)
            self.exit(2)
        return super().parse_known_args(arguments, namespace)
