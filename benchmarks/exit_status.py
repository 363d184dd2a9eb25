"""How a benchmark ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def exit_with(main: Callable[[], int], *errors: type[Exception]) -> NoReturn:
    """Exit with the status of ``main``, or with 2 and a message if it raises one of ``errors``."""
    try:
        sys.exit(main())
    except errors as problem:
        print(f"{Path(sys.argv[0]).stem}: {problem}", file=sys.stderr)
        sys.exit(2)
