"""The severities that a configuration gives to fitness checks."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pytest_llmperf.fitness_checks import CHECKS, SEVERITIES, FitnessCheck
from pytest_llmperf.units import shown


def check_severities(
    given: Mapping[Any, Any],
) -> tuple[dict[str, str], list[tuple[str, str, Any]]]:
    """Return the severities by check, and the problems: (key, complete message, value).

    null resets what a lower layer set.
    """
    severities: dict[str, str] = {}
    wrong: list[tuple[str, str, Any]] = []
    for name, value in given.items():
        check = CHECKS.get(name) if isinstance(name, str) else None
        if check is None:
            wrong.append((str(name), _unknown(name), value))
        elif value is None:
            continue
        elif value not in allowed(check):
            wrong.append((name, _refused(check, value), value))
        else:
            severities[name] = value
    return severities, wrong


def allowed(check: FitnessCheck) -> tuple[str, ...]:
    """Return the severities a check may get; effects of the configuration are always judged."""
    return tuple(s for s in SEVERITIES if s != "invalid" or check.doing != "configuration")


def _unknown(name: object) -> str:
    near = difflib.get_close_matches(str(name).lower().replace("-", "_"), CHECKS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(CHECKS)})"
    return f"no fitness check of this name{hint}"


def _refused(check: FitnessCheck, value: object) -> str:
    words = " or ".join(allowed(check)).replace(" or ", ", ", len(allowed(check)) - 2)
    if value == "invalid":
        return (
            f"expected {words}, got 'invalid': this is the configuration's doing, which is judged "
            "and named as the cause"
        )
    return f"expected {words}, got {shown(value)}"
