"""The parser of the command line: a command without its subcommand shows the list of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any


class CommandParser(argparse.ArgumentParser):
    """Prints its help, and exits with 2, where only the name of a subcommand is missing.

    Parsers of subcommands are of this class, too: argparse makes them of their parent's.
    """

    _has_commands = False

    def add_subparsers(self, **options: Any) -> Any:
        """Add the subcommands, as argparse does."""
        self._has_commands = True
        return super().add_subparsers(**options)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, unless there is nothing to parse and a subcommand is needed."""
        arguments = sys.argv[1:] if args is None else list(args)
        if self._has_commands and not arguments:
            self.print_help(sys.stderr)
            self.exit(2)
        return super().parse_known_args(arguments, namespace)
