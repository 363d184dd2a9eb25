"""A session as JUnit XML, held to the schema of Jenkins' xUnit plugin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_outputs import Output
from lxml import etree
from report_variants import HOSTILE, case, check, comparison, of_verdicts, reason, variant

from pytest_llmperf.text import printable

Report = Callable[..., Output]
SCHEMA = Path(__file__).parent / "schemas" / "junit-10.xsd"


@pytest.fixture(scope="module")
def schema() -> Any:
    return etree.XMLSchema(etree.parse(SCHEMA))


@pytest.fixture
def cases(report: Report, schema: Any) -> Callable[[dict[str, Any]], list[Any]]:
    """Return a function that reads the cases of a JUnit file and checks the file and its counts."""

    def read(data: dict[str, Any]) -> list[Any]:
        root = etree.fromstring(report(data, "--junit").out.encode())
        schema.assertValid(root)
        (suite,) = root
        elements = suite.findall("testcase")
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(name)) == len(suite.findall(f"testcase/{tag}"))
        assert int(root.get("tests")) == int(suite.get("tests")) == len(elements)
        return elements

    return read


def outcome(found: Any) -> str:
    """Return the tag of the element that says how a case ended; a case without one passed."""
    return next((element.tag for element in found if element.tag != "system-out"), "passed")


def test_the_real_session(real: dict[str, Any], cases: Any, real_folder: Path) -> None:
    testcases = cases(real)
    assert list(map(outcome, testcases)) == ["passed", "failure", "skipped", "failure", "skipped"]
    failure = testcases[1].find("failure")
    assert failure.get("type") == "llmperf.missed"
    assert failure.get("message").startswith("missed: first token: target missed by ")
    assert "tokens/s: no baseline: " in testcases[0].findtext("system-out")
    assert ", target >=1 tok/s" in testcases[0].findtext("system-out")
    assert testcases[3].find("failure").text.startswith("failed, not measured: AssertionError")
    # The names are those in pytest's own file, so that histories continue.
    own = etree.parse(real_folder / "pytest.xml").findall(".//testcase")
    names = {(testcase.get("classname"), testcase.get("name")) for testcase in own}
    assert {(testcase.get("classname"), testcase.get("name")) for testcase in testcases} == names


def test_the_suite_names_the_session(real: dict[str, Any], report: Report) -> None:
    root = etree.fromstring(report(real, "--junit").out.encode())
    facts = {fact.get("name"): fact.get("value") for fact in root.iter("property")}
    assert facts["llmperf.verdict"] == "missed"
    assert facts["llmperf.counts"].startswith("3 tests, 5 checks: 1 missed, 4 no baseline")
    assert facts["llmperf.machine"] == real["session"]["machine"]


@pytest.mark.parametrize(
    ("verdict", "ended"),
    [
        ("error", "error"),
        ("invalid", "error"),
        ("regressed", "failure"),
        ("missed", "failure"),
        ("inconclusive", "skipped"),
        ("workload changed", "skipped"),
        ("no baseline", "skipped"),
        (None, "skipped"),
        ("pass", "passed"),
        ("improved", "passed"),
    ],
)
def test_only_what_is_proven_passed(
    real: dict[str, Any], cases: Any, verdict: str | None, ended: str
) -> None:
    (testcase,) = cases(of_verdicts(real, verdict))
    assert outcome(testcase) == ended
    if ended != "passed":
        assert testcase[0].get("message").startswith(verdict or "not judged")


def test_a_met_target_without_a_baseline_passed(real: dict[str, Any], cases: Any) -> None:
    metric = check("no baseline", reasons=[reason("no baseline"), reason("pass", "target")])
    (testcase,) = cases(variant(real, case(real, "t.py::t", metric)))
    assert outcome(testcase) == "passed"


def test_the_sessions_own_options_decide_what_fails(real: dict[str, Any], cases: Any) -> None:
    """Strict, accepting, requiring a baseline: the report judges nothing again."""
    data = of_verdicts(real, "inconclusive", "no baseline", "regressed")
    data["session"]["fails"] = ["error", "invalid", "missed", "inconclusive", "no baseline"]
    assert list(map(outcome, cases(data))) == ["failure", "failure", "skipped"]


def test_an_outranked_verdict_fails_too(real: dict[str, Any], cases: Any) -> None:
    """The slower level is accepted, but the target is missed as well."""
    metric = check("regressed", reasons=[reason("regressed"), reason("missed", "target")])
    data = variant(real, case(real, "t.py::t", metric), fails=["error", "invalid", "missed"])
    assert outcome(cases(data)[0]) == "failure"


def test_every_name_is_text(real: dict[str, Any], cases: Any) -> None:
    tests = [
        case(real, f"tests/test_x.py::TestX::test_x[{name}::]", check("regressed", claim=name))
        for name in HOSTILE
    ]
    testcases = cases(variant(real, *tests, model="".join(HOSTILE)))
    assert {testcase.get("classname") for testcase in testcases} == {"tests.test_x.TestX"}
    assert [testcase.get("name") for testcase in testcases] == [
        f"test_x[{printable(name)}::]" for name in HOSTILE
    ]


def test_a_test_that_only_the_base_has_is_skipped(real: dict[str, Any], cases: Any) -> None:
    testcases = cases(comparison(of_verdicts(real, "pass"), removed=["t.py::gone"]))
    assert list(map(outcome, testcases)) == ["passed", "skipped"]
    assert testcases[1][0].get("message") == "removed: only the base has this test"
