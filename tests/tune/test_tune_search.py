"""Whole searches with the real llama.cpp: a gain is proven, or nothing is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tiny_models import TinyModel, tiny_llama, tiny_model
from tune_runs import Tune, propose_first

import pytest_llmperf as perf
from pytest_llmperf.metric_types import Direction
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.session.measuring import device_held
from pytest_llmperf.stored_json import dump, read
from pytest_llmperf.tune.answers import AnswerBound, UncheckedAnswersError
from pytest_llmperf.tune.errors import TuneError
from pytest_llmperf.tune.look import FirstLook, LookError, look
from pytest_llmperf.tune.request import TuneRequest
from pytest_llmperf.tune.result import Point, TuneResult
from pytest_llmperf.tune.storage import file_url, open_storage


@pytest.fixture
def one_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """End every race after its first pair, for tests in which the winner does not matter."""
    monkeypatch.setattr("pytest_llmperf.tune.race.MAX_PAIRS", 1)


def test_a_bad_setting_is_found_and_its_gain_proven(tune: Tune) -> None:
    # A prompt of 300 tokens processed one by one; a KV cache too large for any test machine.
    result = tune(
        {"space": {"n_batch": [1, 512], "n_ctx": [512, 1 << 30]}},
        request=TuneRequest(phases=(1,)),
        # At this width a prompt takes four times as long token by token, on any machine.
        model_path=str(tiny_llama(width=512, name="wide-llama")),
        n_batch=1,
        targets={"first_token": "1us"},
    )
    assert result.winner is not None
    assert result.winner.changed["n_batch"] == 512
    assert result.winner.settings["n_batch"] == 512
    assert result.confirmed is not None
    assert result.conclusion.startswith("improved: first token")
    (gain,) = [gain for gain in result.confirmed.gains if gain.objective]
    assert gain.proven
    assert gain.change.change is not None
    assert gain.change.high is not None
    assert gain.change.change < gain.change.high < 0
    assert gain.log_evidence is not None
    assert gain.log_threshold is not None
    assert gain.log_evidence >= gain.log_threshold
    (target,) = result.targets
    assert (target.before, target.after) == ("missed", "missed")
    outcomes = {point.outcome for point in result.points}
    assert "does not fit" in outcomes
    assert all(point.reason for point in result.points if point.outcome == "does not fit")
    assert result.winner.point in result.pareto
    assert read(TuneResult, dump(result)) == result


def test_where_nothing_helps_nothing_is_claimed_and_the_study_is_complete(tune: Tune) -> None:
    section = {"space": {"use_mmap": [True, False]}, "min_gain": "50%"}
    result = tune(section)
    assert result.winner is None
    assert result.conclusion.startswith("no proven improvement")
    assert [point.settings for point in result.points] == [{"use_mmap": False}]
    # Another run has nothing left to try.
    again = tune(section)
    assert again.study == result.study
    assert [point.number for point in again.points] == [point.number for point in result.points]


@pytest.mark.usefixtures("one_pair")
def test_a_model_is_tried_and_one_that_can_not_be_loaded_is_a_point_with_its_reason(
    tune: Tune, tmp_path: Path
) -> None:
    smaller = tiny_llama(quantization="Q8_0", name="smaller")
    missing, cut = tmp_path / "missing.gguf", tmp_path / "cut.gguf"
    cut.write_bytes(smaller.read_bytes()[:20_000])
    result = tune(
        {"models": [str(smaller), str(missing), str(cut)], "space": {"use_mmap": [True]}},
        request=TuneRequest(phases=(2,)),
    )
    by_model = {point.settings["model_path"]: point for point in result.points}
    assert by_model[str(smaller)].outcome in ("measured", "lost")
    assert by_model[str(smaller)].pairs <= 1
    assert by_model[str(missing)].outcome == "unsupported"
    assert "no such file" in by_model[str(missing)].reason
    assert by_model[str(cut)].outcome == "unsupported"
    assert by_model[str(cut)].reason
    assert all(point.phase == 2 for point in result.points)


def test_refinement_alone_tries_values_beside_todays(tune: Tune) -> None:
    section = {"space": {"n_batch": [4, 64, 512], "use_mmap": [True, False]}}
    wide = str(tiny_llama(width=512, name="wide-llama"))
    result = tune(section, request=TuneRequest(phases=(3,)), model_path=wide, n_batch=64)
    tried = [(point.phase, point.origin, point.settings) for point in result.points]
    # Halfway to either neighbour; keys whose values are not numbers are left alone.
    assert tried == [(3, "neighbour", {"n_batch": value}) for value in (16, 181)]
    assert all(point.outcome in ("measured", "lost") for point in result.points)
    assert result.phases == (3,)


def test_other_quantizations_in_the_folder_are_tried(tune: Tune, tmp_path: Path) -> None:
    large, small = tiny_llama(width=512, name="wide-llama"), tiny_llama(quantization="Q8_0")
    (tmp_path / "chat-F16.gguf").write_bytes(large.read_bytes())
    # A quantization of the model, one of another model, and one that loses much quality.
    for name in ("chat-Q8_0.gguf", "other-Q8_0.gguf", "chat-Q2_K.gguf"):
        (tmp_path / name).write_bytes(small.read_bytes())
    section: dict[str, Any] = {"space": {"use_mmap": [True]}}
    result = tune(section, request=TuneRequest(phases=(2,)), model_path="chat-F16.gguf")
    assert [point.settings for point in result.points] == [{"model_path": "chat-Q8_0.gguf"}]
    assert result.winner is not None
    (note,) = (note for note in result.notes if "another model or quantization" in note)
    assert "its answers were not compared" in note
    none = {**section, "models": []}
    request = TuneRequest(phases=(2,), study="none")
    assert tune(none, request=request, model_path="chat-F16.gguf").points == ()


def test_a_model_that_makes_other_tokens_is_not_compared(tune: Tune, tmp_path: Path) -> None:
    def fill(model: TinyModel) -> None:
        model.vocabulary(None)
        # No beginning-of-sequence token: the prompt is one token shorter.
        model.writer.add_add_bos_token(False)
        model.transformer(2, 64)

    other = tiny_model({"architecture": "llama", "bos": False}, fill, name="other")
    result = tune(
        {"models": [str(other)], "space": {"use_mmap": [True]}}, request=TuneRequest(phases=(2,))
    )
    (point,) = result.points
    assert point.outcome == "unsupported"
    assert "it did different work" in point.reason


def _looks(
    monkeypatch: pytest.MonkeyPatch, changes: Callable[[int, FirstLook], FirstLook | None]
) -> list[FirstLook]:
    """Simulate first looks on a machine whose speed changes; return the looks that were taken.

    All looks are as fast as the first, apart from ``changes``: this machine itself is shared.

    ``changes`` takes an index and its look; returns the changed look, or None if it took too long.
    """
    looks: list[FirstLook] = []
    measured: dict[str, FirstLook] = {}

    def taken(*arguments: Any) -> FirstLook:
        seen = look(*arguments)
        first = measured.setdefault("first", seen)
        seen = replace(seen, seconds=first.seconds, longest=first.longest, values=first.values)
        changed = changes(len(looks), seen)
        looks.append(changed or seen)
        if changed is None:
            raise LookError("lost", "a request took over 10 s")
        return looks[-1]

    monkeypatch.setattr("pytest_llmperf.tune.runners.look", taken)
    return looks


def _faster(look: FirstLook, factor: float) -> FirstLook:
    """Return the look as taken on a machine that is faster by this factor."""
    values = {
        test: {
            name: value * factor if METRICS[name].direction is Direction.HIGHER else value / factor
            for name, value in metrics.items()
        }
        for test, metrics in look.values.items()
    }
    return replace(
        look, seconds=look.seconds / factor, longest=look.longest / factor, values=values
    )


def test_a_machine_that_became_slower_loses_no_race(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = _looks(monkeypatch, lambda index, seen: seen if index else _faster(seen, 20))
    (point,) = tune({"space": {"use_mmap": [True, False]}}).points
    # Today's configuration, the candidate, and today's configuration again.
    assert len(looks) == 3
    assert point.pairs > 0
    assert "the first replay" not in point.reason


def test_a_machine_that_became_faster_wins_no_race(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = _looks(monkeypatch, lambda index, seen: seen if index else _faster(seen, 0.05))
    (point,) = tune({"space": {"use_mmap": [True, False]}}).points
    assert len(looks) == 3
    assert point.pairs > 0
    assert "the first replay" not in point.reason


def test_a_candidate_has_more_time_on_a_machine_that_became_slower(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(index: int, seen: FirstLook) -> FirstLook | None:
        return (_faster(seen, 20), None, seen, seen)[index]

    looks = _looks(monkeypatch, slower)
    (point,) = tune({"space": {"use_mmap": [True, False]}}).points
    assert len(looks) == 4
    assert point.pairs > 0
    # Where the best point is as fast as before, the candidate has lost.
    looks = _looks(monkeypatch, lambda index, seen: None if index == 1 else _faster(seen, 1))
    (point,) = tune({"space": {"use_mmap": [True, False]}}, n_batch=256).points
    assert (len(looks), point.outcome) == (3, "lost")
    assert point.reason == "a request took over 10 s"


def test_answers_that_are_not_good_enough_are_no_winner(tune: Tune) -> None:
    result = tune(
        {"space": {"n_batch": [1, 512]}, "max_kl": 0.1},
        request=TuneRequest(phases=(1,)),
        n_batch=1,
        quality=lambda settings: f"KL divergence 0.3 with {settings['n_batch']}",
    )
    assert result.winner is None
    assert [(point.outcome, point.reason) for point in result.points] == [
        ("rejected", "KL divergence 0.3 with 512")
    ]


@pytest.mark.usefixtures("one_pair")
def test_answers_that_can_not_be_compared_bar_no_other_combination(
    tune: Tune, tmp_path: Path
) -> None:
    def failing(settings: object) -> str | None:
        raise UncheckedAnswersError("tune.max_kl can't be checked: the engine crashed")

    propose_first(tmp_path, "mine", {"n_batch": 512, "type_k": "q4_0"})
    result = tune(
        {"space": {"n_batch": [1, 512], "type_k": ["f16", "q4_0"]}, "max_kl": 0.1},
        request=TuneRequest(phases=(1,), study="mine"),
        model_path=str(tiny_llama(width=512, name="wide-llama")),
        n_batch=1,
        flash_attn=True,
        quality=failing,
    )
    first, *others = result.points
    assert (first.outcome, first.reason) == (
        "failed",
        "tune.max_kl can't be checked: the engine crashed",
    )
    assert {"type_k": "q4_0"} in [point.settings for point in others]
    assert result.winner is None


def test_a_cache_whose_answers_differ_too_much_is_rejected_and_the_search_goes_on(
    tune: Tune, tmp_path: Path
) -> None:
    space = {"n_batch": [1, 512], "type_k": ["f16", "q4_0"]}
    propose_first(tmp_path, "mine", {"n_batch": 512, "type_k": "q4_0"})
    result = tune(
        {"space": space, "max_kl": 1e-9},
        request=TuneRequest(phases=(1,), study="mine"),
        model_path=str(tiny_llama(width=512, name="wide-llama")),
        n_batch=1,
        flash_attn=True,
    )
    first, *others = result.points
    assert (first.settings, first.outcome) == ({"n_batch": 512, "type_k": "q4_0"}, "rejected")
    assert first.reason.startswith("tune.max_kl: quality lost: ")
    assert "must be at most" in first.reason
    assert first.reason.endswith("; other combinations with type_k: q4_0 are skipped")
    assert all("type_k" not in point.settings for point in others)
    # Equal answers are not compared: even rounding would exceed this bound.
    assert result.winner is not None
    assert result.winner.changed == {"n_batch": 512}
    assert {"n_batch": 512} in [point.settings for point in others if point.took_over]


def test_answers_are_compared_once_and_only_where_they_can_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(tmp_path / "cache"))
    llm = {"model_path": str(tiny_llama()), "n_ctx": 512, "n_batch": 64, "n_ubatch": 64}
    Path("words.txt").write_text("Green bottles, blue bottles. " * 20)
    Path("config.yaml").write_text("quality: {text: words.txt}")
    setup = perf.configuration(llm=llm)
    messages: list[str] = []
    bound = AnswerBound(setup, [], 10.0, messages.append)
    assert bound({"n_batch": 128, "n_threads": 1, "use_mmap": False}) is None
    assert not messages
    assert bound({"flash_attn": True}) is None
    assert len(messages) == 2
    assert bound({"flash_attn": True, "n_threads": 1}) is None
    assert len(messages) == 2
    other = tiny_llama(seed=1, name="other")
    reason = AnswerBound(setup, [], 1e-6, messages.append)({"model_path": str(other)})
    assert reason is not None
    assert reason.startswith("tune.max_kl: quality lost: ")
    with pytest.raises(UncheckedAnswersError, match=r"tune.max_kl can't be checked: .*none.gguf"):
        bound({"model_path": "none.gguf"})


def test_a_bound_that_can_not_be_checked_is_an_error(tune: Tune) -> None:
    with pytest.raises(TuneError, match=r"tune.max_kl can't be checked: the text .*none.txt"):
        tune({"max_kl": 0.1}, text="none.txt")


def test_memory_over_the_maximum_is_rejected(tune: Tune) -> None:
    section = {"space": {"n_ctx": [512, 1024]}, "max_memory": "1MiB"}
    result = tune(section, request=TuneRequest(phases=(1,)))
    assert [point.outcome for point in result.points] == ["rejected"]
    assert "more than tune.max_memory (1.0 MiB)" in result.points[0].reason


def test_the_budget_ends_the_search(tune: Tune) -> None:
    result = tune({"space": {"n_batch": [1, 64, 512]}}, request=TuneRequest(budget=0.1), n_batch=1)
    assert result.points == ()
    assert result.conclusion.startswith("no proven improvement: 0 points tried, none better")


def test_a_point_races_against_what_another_worker_found_while_it_waited_for_the_device(
    tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose_first(tmp_path, "mine", {"use_mmap": False, "n_batch": 512})
    study = optuna.load_study(
        study_name="mine", storage=open_storage(file_url(tmp_path / "cache" / "tune", "mine"))
    )
    all_stored: list[bool] = []

    @contextmanager
    def after_another(*arguments: Any) -> Iterator[None]:
        with device_held(*arguments):
            trials = study.get_trials(deepcopy=False)
            if [trial.state for trial in trials] == [TrialState.RUNNING]:
                other = study.ask()
                better = Point(2, 1, {"n_batch": 64}, "measured", took_over=True, score=-0.1)
                other.set_user_attr("point", dump(better))
                study.tell(other, -0.1)
            yield
            # The next worker must see what this one found.
            all_stored.append(all(trial.user_attrs.get("point") for trial in study.get_trials()))

    monkeypatch.setattr("pytest_llmperf.tune.search.device_held", after_another)
    section = {"space": {"use_mmap": [True, False], "n_batch": [64, 512]}}
    result = tune(section, request=TuneRequest(phases=(1,), study="mine"), n_batch=512)
    assert (result.points[0].number, result.points[0].against) == (1, 2)
    # Except after the look at today's configuration, which comes first.
    assert all(all_stored[1:])


def test_the_study_is_a_file_of_the_cache_folder(tune: Tune, tmp_path: Path) -> None:
    result = tune(
        {"space": {"use_mmap": [True, False]}}, request=TuneRequest(study="mine", budget=0.1)
    )
    file = tmp_path / "cache" / "tune" / "mine.db"
    assert result.storage.endswith(str(file))
    with sqlite3.connect(file) as database:
        names = database.execute("select study_name from studies").fetchall()
    database.close()
    assert names == [("mine",)]


def test_another_build_of_llama_cpp_begins_another_study(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    section, request = {"space": {"use_mmap": [True, False]}}, TuneRequest(budget=0.1)
    names = [tune(section, request=request).study for _ in range(2)]
    monkeypatch.setattr("pytest_llmperf.tune.search.installed_build", lambda: {"version": "0"})
    names.append(tune(section, request=request).study)
    assert names[0] == names[1] != names[2]
