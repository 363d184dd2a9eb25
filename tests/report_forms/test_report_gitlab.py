"""A session as GitLab's Code Quality report, checked against the format's description.

https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_outputs import Output
from report_variants import HOSTILE, case, check, of_verdicts, variant

Report = Callable[..., Output]
#: The fields that GitLab requires, and the form of each.
SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "location", "severity"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "minLength": 1},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    # Relative to the repository, without a leading ``./``.
                    "path": {"type": "string", "pattern": r"^(?!\./|/)."},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}


def findings(out: str) -> list[dict[str, Any]]:
    """Return the findings of a report that is valid and has unique fingerprints."""
    assert "\ufeff" not in out
    assert "\\u0000" not in out
    entries: list[dict[str, Any]] = json.loads(out)
    jsonschema.validate(entries, SCHEMA)
    assert len({entry["fingerprint"] for entry in entries}) == len(entries)
    return entries


def test_the_real_session(real: dict[str, Any], report: Report) -> None:
    found = findings(report(real, "--gitlab").out)
    assert [(f["check_name"], f["severity"], f["location"]["lines"]["begin"]) for f in found] == [
        ("llmperf missed", "major", 10),
        ("llmperf no baseline", "info", 16),
        ("llmperf not measured", "major", 21),
        ("llmperf not measured", "minor", 26),
    ]
    assert {f["location"]["path"] for f in found} == {"tests/test_real.py"}
    assert found[0]["description"].startswith(f"{real['tests'][1]['nodeid']}: missed: first token")


@pytest.mark.parametrize(
    ("verdict", "severity"),
    [
        ("error", "critical"),
        ("invalid", "critical"),
        ("regressed", "major"),
        ("missed", "major"),
        ("inconclusive", "minor"),
        ("workload changed", "info"),
        ("no baseline", "info"),
        (None, "minor"),
    ],
)
def test_all_that_is_not_proven_is_a_finding(
    real: dict[str, Any], report: Report, verdict: str | None, severity: str
) -> None:
    (finding,) = findings(report(of_verdicts(real, "pass", verdict), "--gitlab").out)
    assert finding["severity"] == severity


def test_a_good_session_has_none(real: dict[str, Any], report: Report) -> None:
    assert findings(report(of_verdicts(real, "pass", "improved"), "--gitlab").out) == []


def test_a_finding_is_the_same_with_other_numbers(real: dict[str, Any], report: Report) -> None:
    """A merge request shows the findings that its target branch does not have."""

    def fingerprint(verdict: str, claim: str, line: int) -> str:
        place = {"file": "t.py", "line": line}
        data = variant(real, case(real, "t.py::t", check(verdict, claim=claim), location=place))
        (finding,) = findings(report(data, "--gitlab").out)
        return str(finding["fingerprint"])

    assert fingerprint("regressed", "5% slower", 1) == fingerprint("regressed", "6% slower", 9)
    assert fingerprint("regressed", "5% slower", 1) != fingerprint("inconclusive", "", 1)


def test_hostile_names_are_kept_apart(real: dict[str, Any], report: Report) -> None:
    tests = [case(real, f"./t.py::t[{name}]", check("missed"), location=None) for name in HOSTILE]
    assert len(findings(report(variant(real, *tests), "--gitlab").out)) == len(HOSTILE)


def test_the_path_is_from_the_top_of_the_repository(
    real: dict[str, Any], report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub" / "tests").mkdir(parents=True)
    (tmp_path / "sub" / "tests" / "test_real.py").write_text("")
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("CI_PROJECT_DIR", str(tmp_path))
    entries = findings(report(real, "--gitlab").out)
    assert entries[0]["location"]["path"] == "sub/tests/test_real.py"


def test_a_long_reason_is_cut(real: dict[str, Any], report: Report) -> None:
    failing = case(real, "t.py::x", check("missed", claim="x" * 50_000))
    (finding,) = findings(report(variant(real, failing), "--gitlab").out)
    assert len(finding["description"]) < 1500
