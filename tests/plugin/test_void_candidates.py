"""Sessions whose candidate never met a fit machine, and metrics that must be judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest


@pytest.fixture
def only_the_base_is_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the machine unfit for every process of the candidate, and for none of the base."""
    from pytest_llmperf.machine.fitness import FitnessFinding
    from pytest_llmperf.measure import replay

    original = replay.Replayer.replay

    def unfit(self: Any, nodeid: str, processes: Any, *rest: Any) -> Any:
        watch = self._watch

        def disturbed(client: Any) -> Any:
            found = FitnessFinding("busy_cores", "invalid", "a neighbour took the cores")
            made = watch(client)
            stop = made.stop
            made.stop = lambda: [*stop(), found]
            return made

        if processes[0].slot.side == "candidate":
            self._watch = disturbed
        try:
            return original(self, nodeid, processes, *rest)
        finally:
            self._watch = watch

    monkeypatch.setattr(replay.Replayer, "replay", unfit)


@pytest.mark.parametrize("marker", ["perf", "tokens_per_sec(min=1)"])
@pytest.mark.usefixtures("only_the_base_is_fit")
def test_without_a_fit_process_of_its_own_a_session_is_invalid(project: Any, marker: str) -> None:
    project.write(
        test_toy=f"""
        @pytest.mark.{marker}
        def test_one(llm_engine):
            llm_engine.generate("hi", max_tokens=4)
        """
    )
    (project.path / "other.yaml").write_text((project.path / "config.yaml").read_text())
    project.perf("--llmperf-against-config", "other.yaml").assert_outcomes(failed=1)
    assert project.verdicts() == {"test_one": "invalid"}


def test_a_stall_rate_configured_for_all_tests_is_judged(project: Any) -> None:
    project.write(
        test_toy="""
        @pytest.mark.perf
        def test_one(llm_engine):
            llm_engine.generate("hi", max_tokens=4)
        """
    )
    config = (project.path / "config.yaml").read_text()
    project.configure(config + "  targets: {stall_rate: 99%}\n")
    project.perf()
    (test,) = project.session()["tests"]
    (rate,) = [metric for metric in test["metrics"] if metric["name"] == "stall_rate"]
    assert rate["verdict"] is not None
    assert rate["tolerance"] == 0.2


def test_a_percentile_configured_for_all_tests_is_refused_where_it_can_not_be_had(
    project: Any,
) -> None:
    project.write(
        test_toy="""
        @pytest.mark.perf
        def test_one(llm_engine):
            llm_engine.generate("hi", max_tokens=4)
        """
    )
    config = (project.path / "config.yaml").read_text()
    project.configure(config + "  targets: {first_token_p95: 5s}\n")
    project.perf().stdout.fnmatch_lines(["*first token p95 needs at least*"])
    assert project.verdicts() == {"test_one": "error"}


def test_half_void_pairs_are_no_good_pairs() -> None:
    from pytest_llmperf.config.schema import PerfConfig
    from pytest_llmperf.measure.plan import Plan
    from pytest_llmperf.measure.replication import BLOCK
    from pytest_llmperf.measure.samples import BASE, CANDIDATE, ProcessSample, TestSamples
    from pytest_llmperf.session.session_gate import unfit

    plan = Plan({}, {}, 1.0, PerfConfig(processes=3), seed=1, budget=60.0)

    def half(side: str, pair: int | None, void: str | None = None) -> ProcessSample:
        return ProcessSample(0, ({"end_to_end": 1.0},), void=void, side=side, pair=pair)

    void = [half(BASE, pair, "a neighbour took the cores") for pair in (1, 2)]
    valid = [half(CANDIDATE, 0), half(BASE, 0), half(CANDIDATE, 1), half(CANDIDATE, 2)]
    samples = TestSamples(valid, voided=void, budget_reached=True)
    assert unfit(samples, plan) == ("a neighbour took the cores (and 1 more process like it)",)
    of_blocks = unfit(samples, replace(plan, unit=BLOCK))
    assert of_blocks == ("a neighbour took the cores (and 1 more block like it)",)
    # Others could have replaced them if the user had not ended the session.
    assert unfit(samples, plan, interrupted=True) == ()
    given_up = TestSamples(valid, voided=void, given_up=True)
    assert unfit(given_up, plan, interrupted=True) != ()
    # Two more whole pairs are enough, and so are processes of a test that only one side has.
    more = [half(side, pair) for pair in (3, 4) for side in (CANDIDATE, BASE)]
    assert unfit(TestSamples([*valid, *more], voided=void), plan) == ()
    alone = [half(CANDIDATE, None)] * 3
    assert unfit(TestSamples(alone, voided=[half(CANDIDATE, None, "hot")]), plan) == ()
