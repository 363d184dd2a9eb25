"""A session's measurements for tools that store them, each read as that tool reads it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from command_outputs import Output
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from report_variants import HOSTILE, case, check, of_verdicts, variant

Report = Callable[..., Output]
#: As described in https://bencher.dev/docs/reference/bencher-metric-format.
BMF = {
    "type": "object",
    "additionalProperties": False,
    "patternProperties": {
        r"^[\s\S]{1,1024}$": {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {
                r"^[\s\S]{1,64}$": {
                    "type": "object",
                    "required": ["value"],
                    "additionalProperties": False,
                    "properties": {
                        name: {"type": "number"} for name in ("value", "lower_value", "upper_value")
                    },
                }
            },
        }
    },
}
#: ``BenchmarkResult`` in github-action-benchmark's src/extract.ts.
ENTRIES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"},
            "unit": {"type": "string"},
            "value": {"type": "number"},
            "range": {"type": "string", "pattern": r"^± \d\S*$"},
            "extra": {"type": "string"},
        },
    },
}


@pytest.fixture
def bmf(report: Report) -> Callable[[dict[str, Any]], Any]:
    def read(data: dict[str, Any]) -> Any:
        parsed = json.loads(report(data, "--bmf").out)
        jsonschema.validate(parsed, BMF)
        return parsed

    return read


@pytest.fixture
def entries(report: Report) -> Callable[[dict[str, Any], str], list[Any]]:
    def read(data: dict[str, Any], better: str) -> list[Any]:
        parsed: list[Any] = json.loads(report(data, "--github-action-benchmark", better).out)
        jsonschema.validate(parsed, ENTRIES)
        # Results of two commits are matched by name.
        assert len({entry["name"] for entry in parsed}) == len(parsed)
        return parsed

    return read


@pytest.fixture
def families(report: Report) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that reads the metric families with the strict parser, by name."""

    def read(data: dict[str, Any]) -> dict[str, Any]:
        text = report(data, "--openmetrics").out
        assert text.endswith("# EOF\n")
        return {family.name: family for family in text_string_to_metric_families(text)}

    return read


def test_bencher_gets_a_measure_for_every_metric(real: dict[str, Any], bmf: Any) -> None:
    results = bmf(real)
    assert list(results) == [test["nodeid"] for test in real["tests"]]
    metric = next(m for m in real["tests"][0]["metrics"] if m["name"] == "tokens_per_sec")
    measure = results[real["tests"][0]["nodeid"]]["tokens_per_sec"]
    assert measure["value"] == metric["value"]
    data = of_verdicts(real, "pass", "pass")
    data["tests"][1]["metrics"] = [check(low=None, high=None)]
    with_interval, without = bmf(data).values()
    assert with_interval["first_token"] == {
        "value": 0.412,
        "lower_value": 0.41,
        "upper_value": 0.415,
    }
    assert without["first_token"] == {"value": 0.412}


def test_bencher_gets_names_that_it_takes(real: dict[str, Any], bmf: Any) -> None:
    names = [f"t.py::t[{'n' * 2000}{number}]" for number in range(3)]
    long = [case(real, name, check(name="m" * 99)) for name in names]
    hostile = [case(real, f"t.py::t[{name}]", check()) for name in HOSTILE]
    results = bmf(variant(real, *long, *hostile))
    assert len(results) == 3 + len(HOSTILE)


def test_an_action_benchmark_has_one_direction(real: dict[str, Any], entries: Any) -> None:
    nodeid = real["tests"][0]["nodeid"]
    names = [entry["name"] for entry in entries(real, "bigger")]
    assert f"{nodeid} tokens_per_sec" in names
    assert not any("first_token" in name for name in names)
    smaller = entries(of_verdicts(real, "pass"), "smaller")
    assert smaller == [
        {
            "name": "tests/test_x.py::test_0 first_token",
            "unit": "s",
            "value": 0.412,
            "range": "± 0.003",
            "extra": f"pass: the pass was claimed\n{real['tests'][0]['workload']['summary']}",
        }
    ]


@pytest.mark.parametrize("verdict", ["invalid", "error"])
def test_void_numbers_are_stored_nowhere(
    real: dict[str, Any], report: Report, bmf: Any, entries: Any, families: Any, verdict: str
) -> None:
    data = of_verdicts(real, "pass", verdict)
    # In a test that was stopped, metrics that are only shown are void as well.
    data["tests"][1]["metrics"].append(check(None, name="end_to_end", label="end to end"))
    assert list(bmf(data)) == ["tests/test_x.py::test_0"]
    assert len(entries(data, "smaller")) == 1
    by_name = families(data)
    assert len(by_name["llmperf_first_token_seconds"].samples) == 1
    assert "llmperf_end_to_end_seconds" not in by_name
    verdicts = [sample.labels["verdict"] for sample in by_name["llmperf_check"].samples]
    assert verdicts == ["pass", verdict]
    assert (
        "1 test left out, since an error or a disturbed machine voids" in report(data, "--bmf").err
    )


def test_prometheus_reads_the_real_session(real: dict[str, Any], families: Any) -> None:
    by_name = families(real)
    rate = by_name["llmperf_tokens_per_second"]
    assert (rate.type, rate.unit) == ("gauge", "tokens_per_second")
    assert rate.samples[0].labels == {
        "test": real["tests"][0]["nodeid"],
        "metric": "tokens_per_sec",
        "machine": real["session"]["machine"],
        "model": real["session"]["model"],
    }
    assert rate.samples[0].value == next(
        m["value"] for m in real["tests"][0]["metrics"] if m["name"] == "tokens_per_sec"
    )
    assert by_name["llmperf_session"].type == "info"
    outcomes = [sample.labels["outcome"] for sample in by_name["llmperf_unmeasured"].samples]
    assert outcomes == ["failed", "skipped"]


def test_names_end_with_their_unit(real: dict[str, Any], families: Any) -> None:
    metrics = [
        check(name=name, unit=unit, change=0.1)
        for name, unit in (
            ("prefill_tokens_per_sec", "tok/s"),
            ("gpu_memory", "B"),
            ("energy_per_token", "J"),
            ("gpu_power", "W"),
            ("stall_rate", "%"),
            ("kl", "nats"),
            ("inter_token_p99.9", "s"),
            ("first_token_seconds", "s"),
            ("first_token", "s"),
        )
    ]
    by_name = families(variant(real, case(real, "t.py::t", *metrics)))
    for name in (
        "llmperf_prefill_tokens_per_second",
        "llmperf_gpu_memory_bytes",
        "llmperf_gpu_memory_low_bytes",
        "llmperf_gpu_memory_high_bytes",
        "llmperf_energy_per_token_joules",
        "llmperf_gpu_power_watts",
        "llmperf_stall_rate_ratio",
        "llmperf_kl_nats",
        "llmperf_inter_token_p99_9_seconds",
    ):
        assert (
            by_name[name].unit
            == name.removeprefix("llmperf_").rpartition(
                "tokens_per_second" if "tokens_per_second" in name else "_"
            )[2]
            or by_name[name].unit == "tokens_per_second"
        )
    # Two metrics with the same name become two samples.
    assert len(by_name["llmperf_first_token_seconds"].samples) == 2
    assert {sample.value for sample in by_name["llmperf_slowdown_ratio"].samples} == {0.1}


def test_labels_are_data(real: dict[str, Any], report: Report, families: Any) -> None:
    tests = [case(real, f"t.py::t[{name}]", check()) for name in HOSTILE]
    data = variant(real, *tests, model="".join(HOSTILE), against="".join(HOSTILE))
    samples = families(data)["llmperf_first_token_seconds"].samples
    assert len({sample.labels["test"] for sample in samples}) == len(HOSTILE)


def test_gitlab_reads_a_name_with_its_labels_and_a_value(
    real: dict[str, Any], report: Report
) -> None:
    """GitLab takes each line's first two words, as a shell would split it, without comments."""
    data = of_verdicts(real, "pass")
    text = report(data, "--openmetrics").out
    lines = [shlex.split(re.sub("#.*", "", line)) for line in text.splitlines()]
    read = dict(words for words in lines if words)
    (name,) = (name for name in read if name.startswith("llmperf_first_token_seconds{"))
    assert read[name] == "0.412"
    assert "test=tests/test_x.py::test_0" in name


def test_a_metric_of_a_package_that_is_not_installed_is_shown(
    real: dict[str, Any], report: Report, bmf: Any, families: Any
) -> None:
    data = variant(real, case(real, "t.py::t", check(name="of_another_package", label="theirs")))
    assert "of_another_package" in bmf(data)["t.py::t"]
    assert "llmperf_of_another_package_seconds" in families(data)
    assert "theirs" in report(data, "--markdown").out
