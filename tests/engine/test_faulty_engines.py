"""Wrong answers and exceptions of a third-party engine, and the errors that name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import outside_packages
import pytest

from pytest_llmperf.engine.client import LaunchSpec
from pytest_llmperf.engine.errors import EngineError, EngineGoneError, EngineLoadError
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.engine_kinds import GROUP

#: Behaves as its prompt, or ``llm.extra``, says.
ENGINE = """
import time
from dataclasses import replace
from pytest_llmperf.extension import EngineError, Generation, Timeline

class Engine:
    def __init__(self, config):
        self.extra = config["extra"]
        exec(self.extra.get("build", ""), {"self": self})

    def info(self):
        return eval(self.extra.get("info", "{'engine_version': '2.5'}"))

    def generate(self, request, sink):
        start, times = time.perf_counter(), []
        for _ in range(request.max_tokens):
            times.append(time.perf_counter())
        good = Generation(
            "a" * len(times), (), (), Timeline(start, tuple(times)), "length", request.cache
        )
        return eval(request.prompt, {**globals(), **locals()})

    def deep(self):
        return {}["url"]

    def ping(self):
        return self.pong()

    def pong(self):
        return self.ping()

    def reset(self):
        eval(self.extra.get("reset", "None"))

    def close(self):
        eval(self.extra.get("close", "None"))
"""
KIND = """
from pytest_llmperf.extension import EngineKind

ACME = EngineKind("acme", "faulty_engine:Engine")
NO_CLASS = EngineKind("no_class", "faulty_engine:Missing")
PACKAGE = EngineKind("package", "faulty_engine:Missing", package="acme-client")
NO_MODULE = EngineKind("no_module", "faulty_absent:Engine")
SYNTAX = EngineKind("syntax", "faulty_syntax:Engine")
EXITS = EngineKind("exits", "faulty_exits:Engine")
"""
NAMES = ("acme", "no_class", "package", "no_module", "syntax", "exits")
Start = Callable[..., LlmEngine]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start an engine of the package, with these values of ``llm.extra``."""
    engines: list[LlmEngine] = []

    def make(name: str = "acme", **extra: str) -> LlmEngine:
        engines.append(LlmEngine(LaunchSpec(name, {"extra": extra}), max_tokens=4))
        engines[-1].start()
        return engines[-1]

    with pytest.MonkeyPatch.context() as patch:
        outside_packages.install(
            patch,
            tmp_path_factory.mktemp("site") / "acme",
            "acme",
            GROUP,
            {name: f"faulty_kind:{name.upper()}" for name in NAMES},
            faulty_kind=KIND,
            faulty_engine=ENGINE,
            faulty_syntax="def",
            faulty_exits="raise SystemExit('no licence')",
        )
        yield make
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def engine(start: Start) -> LlmEngine:
    return start()


FAULTS = [
    ("None", "must return a Generation; got None"),
    ("'text'", "must return a Generation; got 'text'"),
    ("replace(good, text=b'a')", "text: expected text, got b'a'"),
    ("replace(good, timeline=None)", "timeline: expected a Timeline, got None"),
    (
        "replace(good, finish_reason='done')",
        "finish_reason: expected one of 'length', 'eos', 'stop', 'end', got 'done'",
    ),
    ("replace(good, cache=None)", "cache: expected one of 'clear', 'keep', got None"),
    ("replace(good, token_ids=('a',) * 4)", "token_ids: expected a tuple of integers, got ("),
    ("replace(good, token_ids=None)", "token_ids: expected a tuple of integers, got None"),
    ("replace(good, prompt_token_ids=5)", "prompt_token_ids: expected a tuple of integers, got 5"),
    ("replace(good, timeline=Timeline(start, None))", "token_times: expected a tuple of seconds"),
    (
        "replace(good, timeline=Timeline(start, tuple(times), '5'))",
        "the timeline's counts of prompt tokens: expected integers or None, got ('5', None, None)",
    ),
    ("replace(good, token_ids=(1, 2))", "returned 2 token ids and the times of 4 tokens"),
    (
        "replace(good, timeline=Timeline(start, tuple(times[:2])))",
        "returned the times of 2 tokens, 4 were requested, and its finish_reason is 'length'",
    ),
    (
        "replace(good, timeline=Timeline(start, tuple(times * 2)))",
        "returned 8 tokens, and 4 were requested; stop at request.max_tokens",
    ),
    ("self.deep()", "failed: KeyError: 'url' ("),
    ("sink(None, 'a', 1)", "failed: TypeError: 'NoneType' object is not callable"),
    ("1 / 0", "failed: ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize(("returned", "says"), FAULTS)
def test_a_wrong_answer_is_refused_and_the_engine_goes_on(
    engine: LlmEngine, returned: str, says: str
) -> None:
    with pytest.raises(EngineError) as caught:
        engine.generate(returned)
    text = str(caught.value)
    assert text.startswith("generate() of engine 'acme' "), text
    assert says in text
    assert "pytest_llmperf" not in text
    assert engine.generate("good").output_tokens == 4


def test_the_calls_inside_the_engine_are_shown_and_ours_are_not(engine: LlmEngine) -> None:
    with pytest.raises(EngineError) as caught:
        engine.generate("self.deep()")
    assert "in deep" in str(caught.value)
    assert "in generate" in str(caught.value)
    assert "pytest_llmperf" not in str(caught.value)


def test_an_endless_recursion_is_not_shown_whole(engine: LlmEngine) -> None:
    with pytest.raises(EngineError, match="RecursionError: ") as caught:
        engine.generate("self.ping()")
    assert len(str(caught.value).splitlines()) < 60


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"info": "None"}, "info() of engine 'acme' must return a dict of plain JSON types, with"),
        ({"info": "{'engine_version': {1}}"}, "plain JSON types; 'engine_version' is {1}"),
        ({"info": "{('a', 1): 2}"}, "plain JSON types; ('a', 1) is 2"),
        ({"info": "{}"}, "the info() of the acme engine can't be read ("),
        ({"info": "{'engine_version': 5}"}, "(engine_version: expected str, got 5)"),
        (
            {"info": "{'engine_version': '5', 'n_ctx': '512'}"},
            "(n_ctx: expected int, got '512')",
        ),
        ({"info": "1 / 0"}, "engine 'acme' could not be started: ZeroDivisionError: division"),
        (
            {"build": "raise ConnectionRefusedError('acme is down')"},
            "engine 'acme' could not be started: ConnectionRefusedError: acme is down",
        ),
        ({"build": "None.url"}, "could not be started: AttributeError: 'NoneType' object has no"),
        (
            {"build": "import acme_client"},
            "could not be imported in * No module named 'acme_client'",
        ),
    ],
)
def test_an_engine_that_does_not_start_says_why(
    start: Start, extra: dict[str, str], says: str
) -> None:
    with pytest.raises(EngineLoadError) as caught:
        start(**extra)
    for part in says.split(" * "):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "no_class",
            "faulty_engine:Missing: AttributeError: module 'faulty_engine' has no attribute",
        ),
        ("package", "acme-client is too old or too new for it"),
        ("no_module", "could not be imported in "),
        ("syntax", "engine 'syntax' could not be started: SyntaxError: "),
    ],
)
def test_a_class_that_can_not_be_imported_is_named(start: Start, name: str, says: str) -> None:
    with pytest.raises(EngineLoadError) as caught:
        start(name)
    assert says in str(caught.value)


def test_a_module_that_exits_shows_its_log(start: Start) -> None:
    with pytest.raises(EngineGoneError, match="no licence"):
        start("exits")


def test_reset_and_close_are_named(start: Start) -> None:
    engine = start(reset="1 / 0", close="1 / 0")
    with pytest.raises(EngineError, match=r"reset\(\) of engine 'acme' failed: ZeroDivisionError"):
        engine.reset()
    engine.close()
    assert engine.worker_pid is None
