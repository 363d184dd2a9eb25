"""Every session that can be written can be read back by every later session, zeros included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugin_projects import Project

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.record import (
    BaselineRecord,
    MetricRecord,
    ModelIdentity,
    Provenance,
    RecordedSession,
    TestRecord,
)
from pytest_llmperf.baselines.store import BaselineStore
from pytest_llmperf.machine.fingerprint import Machine
from pytest_llmperf.measure.samples import ProcessSample, TestSamples
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.session.storing import stored_metrics

PERCENTILES = ("inter_token_p60", "first_token_p90")
NAMES = (*METRICS, *PERCENTILES)
#: Any value that a clock, a counter or an application may give.
numbers = st.one_of(
    st.just(0.0), st.floats(min_value=1e-6, max_value=1e6), st.floats(), st.just(5e-324)
)
iterations = st.lists(
    st.dictionaries(st.sampled_from(tuple(METRICS)), numbers), min_size=1, max_size=3
)
text = st.text(st.characters())


def sample_of(rows: list[dict[str, float]], gaps: list[float]) -> ProcessSample:
    return ProcessSample(0, tuple(rows), pooled={"inter_token": tuple(gaps)})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    processes=st.lists(iterations, min_size=1, max_size=3),
    gaps=st.lists(numbers, max_size=15),
    nodeid=text,
    words=text,
    branch=st.none() | text,
)
def test_whatever_was_measured_is_written_and_read_back(
    tmp_path: Path,
    processes: list[list[dict[str, float]]],
    gaps: list[float],
    nodeid: str,
    words: str,
    branch: str | None,
) -> None:
    samples = TestSamples([sample_of(rows, gaps) for rows in processes])
    test = TestRecord("w1", words, stored_metrics(samples, NAMES), invalid=(words,), accepted=words)
    record = BaselineRecord(
        recorded="2026-11-22T23:59:26Z",
        provenance=Provenance(None, False, branch, "0.1.0", "3.11.7", "app", words, "cpu"),
        model=ModelIdentity(words, None),
        config={"n_ctx": 2048, "extra_sha256": {}},
        machine=Machine("xeon-2c_cpu", {"cpu": words}, {}),
        session=RecordedSession(7, 1, 3, (words,)),
        tests={nodeid: test},
    )
    store = BaselineStore(tmp_path)
    path = store.write(record)
    (read,) = store.read_machine("xeon-2c_cpu")
    path.unlink()
    assert list(read.record.tests) == [nodeid]
    metrics = read.record.tests[nodeid].metrics
    assert metrics.keys() == test.metrics.keys()
    for name, metric in test.metrics.items():
        for row, other in zip(metrics[name].samples, metric.samples, strict=True):
            assert row == pytest.approx(other, rel=1e-8, abs=0)


def test_a_record_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    test = TestRecord("w1", "", {"first_token": MetricRecord("s", ((0.0,),))})
    record = BaselineRecord(
        recorded="2026-11-22T23:59:26Z",
        provenance=Provenance(None, False, None, "0.1.0", "3.11.7", "app", "", "cpu"),
        model=ModelIdentity("m", None),
        config={},
        machine=Machine("xeon-2c_cpu", {}, {}),
        session=RecordedSession(7, 1, 3),
        tests={"t": test},
    )
    with pytest.raises(
        BaselineError, match=r"metrics\.first_token\.samples\[0\]\[0\]: expected a number"
    ):
        BaselineStore(tmp_path).write(record)
    assert list(tmp_path.rglob("*.json")) == []


def test_stored_zeros_stop_no_later_session(one_test: Project) -> None:
    one_test.perf("--llmperf-record")

    def add(record: dict[str, Any]) -> None:
        (test,) = record["tests"].values()
        for metric in METRICS.values():
            if metric.resolution is not None and metric.kind == "value":
                test["metrics"][metric.name] = {"unit": metric.unit.value, "samples": [[0.0] * 3]}

    one_test.edit_baseline(add)
    result = one_test.perf()
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    assert one_test.metric("end_to_end")["baseline"]["sessions"] == 1
