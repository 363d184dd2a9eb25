"""Variants of a real report: other verdicts, other names, more tests."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

HOSTILE = [
    "a|b",
    "a\\|b",
    "`x` ``y``",
    "</code></details><script>alert(1)</script>",
    "&amp;&#124;",
    "[click](http://evil.example)",
    "![img](http://evil.example/x.png)",
    "https://evil.example www.evil.example",
    "**bold** __init__ ~~gone~~",
    "line\nbreak\r\ttab\x1b[31m",
    "right\u202eto left \u200b \u2028",
    "<!-- hidden --> --!> ]]>",
    "$x$ ^1 [^1] [x]: y",
    ":smile: a:b @team #12 !3 ~label /close",
    "::error::%0A::set-output name=x::y, z",
    "quote \" and ' and # hash } {",
    "\ud800 \uffff 試験 🚀",
]


def check(verdict: str | None = "pass", **changed: Any) -> dict[str, Any]:
    """Return a metric of a report."""
    return {
        "name": "first_token",
        "label": "first token",
        "unit": "s",
        "direction": "lower",
        "gated": verdict is not None,
        "limit": None,
        "tolerance": 0.05,
        "value": 0.412,
        "low": 0.41,
        "high": 0.415,
        "verdict": verdict,
        "explanation": None if verdict is None else f"the {verdict} was explained",
        "claim": None if verdict is None else f"the {verdict} was claimed",
        "strategy": None if verdict is None else "baseline",
        "change": None,
        "proof": None,
        "baseline": None,
        "notes": [],
        "reasons": [] if verdict is None else [reason(verdict)],
        "samples": [[0.412]],
        "base_samples": [],
        "progress": None,
        "history": None,
        **changed,
    }


def reason(verdict: str, strategy: str = "baseline") -> dict[str, Any]:
    """Return a strategy's reason for a verdict."""
    return {"verdict": verdict, "strategy": strategy, "text": f"{strategy} says {verdict}"}


def case(data: dict[str, Any], name: str, *metrics: dict[str, Any], **changed: Any) -> Any:
    """Return a test like the real report's first one, with other metrics."""
    ranks = (
        *("error", "invalid", "regressed", "missed", "inconclusive"),
        *("workload changed", "no baseline", "pass", "improved"),
    )
    verdicts = [metric["verdict"] for metric in metrics if metric["verdict"] in ranks]
    test = deepcopy(data["tests"][0])
    test |= {"nodeid": name, "metrics": list(metrics), "findings": [], "causes": []}
    test |= {"verdict": min(verdicts, key=ranks.index, default=None), **changed}
    return test


def variant(data: dict[str, Any], *tests: Any, **session: Any) -> dict[str, Any]:
    """Return a report of these tests that names no unmeasured test."""
    changed = deepcopy(data) | {"tests": list(tests), "unmeasured": []}
    changed["session"] |= session
    return changed


def of_verdicts(data: dict[str, Any], *verdicts: str | None) -> dict[str, Any]:
    """Return a report with a test for each verdict."""
    tests = [
        case(data, f"tests/test_x.py::test_{number}", check(verdict))
        for number, verdict in enumerate(verdicts)
    ]
    return variant(data, *tests)


def comparison(data: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Return the data as a report of ``llmperf compare --format json``."""
    sides = {"base": "main", "judged": "HEAD", "base_sessions": 3, "unlike": [], "added": []}
    rest = {"removed": [], "outcome": "fine", "why_not": None, "strict": False}
    beside = {"remarks": [], "command": None}
    return data | {"compare": sides | rest | beside | changed}
