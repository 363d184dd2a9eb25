from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.handle import LlmEngine

App = Callable[..., LlmEngine]


def test_text_is_one_token(app: App) -> None:
    generation = app("def answer(prompt): return f'you said {prompt}'").generate("hi")

    assert generation.text == "you said hi"
    assert generation.output_tokens == 1
    assert generation.finish_reason == "end"
    assert generation.prompt_token_ids == ()


@pytest.mark.parametrize(
    "source",
    [
        """
        def answer(prompt):
            yield "a"
            yield b"b"
            yield "c"
        """,
        """
        async def answer(prompt):
            for text in "abc":
                yield text
        """,
        """
        async def answer(prompt):
            return ["a", "b", "c"]
        """,
        """
        async def answer(prompt):
            async def stream():
                for text in "abc":
                    yield text
            return stream()
        """,
        """
        class Rag:
            def __call__(self, prompt):
                return iter("abc")
        answer = Rag()
        """,
    ],
    ids=["generator", "async generator", "coroutine", "coroutine of a stream", "object"],
)
def test_each_thing_it_yields_is_a_token(app: App, source: str) -> None:
    stream = app(source).stream("hi")

    assert [token.text for token in stream] == ["a", "b", "c"]
    assert stream.generation.text == "abc"
    assert stream.generation.timeline.output_tokens == 3


def test_token_ids_are_taken_as_such(app: App) -> None:
    generation = app("def answer(prompt): return (7, 8, 9)").generate("hi")

    assert generation.token_ids == (7, 8, 9)


@pytest.mark.parametrize(
    "source",
    [
        "def answer(prompt): return [7, 8, 9]",
        "async def answer(prompt): return (7, 8, 9)",
        "import numpy\ndef answer(prompt): return numpy.arange(7, 10)",
    ],
    ids=["list", "coroutine of a tuple", "array"],
)
def test_what_is_returned_complete_comes_all_at_once(app: App, source: str) -> None:
    generation = app(source).generate("hi")

    assert generation.token_ids == (7, 8, 9)
    assert generation.timeline.gaps() == (0.0, 0.0)
    assert generation.metrics.keys() == {"first_token", "end_to_end"}


def test_numpy_token_ids_are_taken_as_such(app: App) -> None:
    generation = app("import numpy\ndef answer(prompt): return numpy.arange(3)").generate("hi")

    assert generation.token_ids == (0, 1, 2)


def test_a_chat_arrives_as_its_messages(app: App) -> None:
    messages = [{"role": "user", "content": "hi"}]

    generation = app("def answer(messages): return repr(messages)").chat(messages)

    assert generation.text == repr(messages)


def test_it_is_given_those_parameters_its_signature_names(app: App) -> None:
    source = """
        def answer(prompt, max_tokens=None, temperature=None):
            return repr([max_tokens, temperature])
    """

    assert app(source).generate("hi", max_tokens=3, temperature=0.5, top_k=4).text == "[3, 0.5]"


def test_it_stops_at_max_tokens(app: App) -> None:
    source = """
        import itertools
        def answer(prompt):
            return (str(n) for n in itertools.count())
    """

    generation = app(source).generate("hi", max_tokens=4)

    assert generation.text == "0123"
    assert generation.finish_reason == "length"


def test_an_async_stream_that_is_cut_short_is_closed(app: App) -> None:
    engine = app("""
        import asyncio
        closed = 0
        def answer(prompt):
            return str(closed) if prompt == "closed?" else stream()
        async def stream():
            global closed
            try:
                while True:
                    yield "x"
            finally:
                await asyncio.sleep(0)
                closed += 1
    """)
    engine.generate("go", max_tokens=2)

    assert engine.generate("closed?").text == "1"


def test_one_event_loop_serves_every_request(app: App) -> None:
    engine = app("""
        import asyncio
        loops = set()
        async def answer(prompt):
            loops.add(asyncio.get_running_loop())
            yield str(len(loops))
    """)
    engine.generate("first")

    assert engine.generate("second").text == "1"


def test_without_anything_to_await_no_event_loop_is_imported(app: App) -> None:
    generation = app(
        """
        import sys
        def answer(prompt): return str("asyncio" in sys.modules)
        """
    ).generate("hi")

    assert generation.text == "False"


def test_an_exception_names_the_line_it_came_from(app: App) -> None:
    engine = app("""
        import json
        def answer(prompt):
            return {}["missing"]
    """)

    with pytest.raises(EngineError) as caught:
        engine.generate("hi")

    assert str(caught.value).startswith("application:answer raised KeyError: 'missing' (")
    assert str(caught.value).endswith("application.py:4)")


def test_running_out_of_memory_is_an_error_of_the_request(app: App) -> None:
    engine = app("def answer(prompt): return bytes(1 << 62)")

    with pytest.raises(EngineError, match=r"raised MemoryError.*application.py:1"):
        engine.generate("hi")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return iter(())", "yielded nothing: there is no token to time; yield each token as it"),
        ("return []", "yielded nothing: there is no token to time; yield each token as it comes"),
        (
            "return None",
            "returned NoneType; text, or an iterable of text or token ids, expected: yield each "
            "token as it comes",
        ),
        ("return {'text': 'a'}", "returned dict; text, or .* expected: yield each token"),
        ("return [None]", "yielded NoneType; text or a token id expected"),
    ],
)
def test_an_answer_that_is_no_text_is_refused(app: App, body: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        app(f"def answer(prompt): {body}").generate("hi")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("", "nowhere:answer", "ModuleNotFoundError: No module named 'nowhere'$"),
        ("", "application:answer", "has no attribute 'answer'"),
        ("x = 1\n1 / 0", "application:answer", r"ZeroDivisionError.*application.py:2"),
        ("answer = 3", "application:answer", "'application:answer' is not callable: 3"),
    ],
)
def test_a_target_that_can_not_be_used_is_a_load_error(
    app: App, source: str, target: str, message: str
) -> None:
    with pytest.raises(EngineLoadError, match=message):
        app(source, target=target).generate("hi")


def test_what_it_prints_does_not_disturb_the_protocol(app: App) -> None:
    engine = app("""
        import os, subprocess, sys
        def answer(prompt):
            print("printed")
            sys.stdout.flush()
            subprocess.run(["echo", "from a child"], check=True)
            os.write(1, b'{"event": "done"}\\n progress: 50%')
            return prompt
    """)

    assert engine.generate("one").text == "one"
    assert engine.generate("two").text == "two"


def test_reading_stdin_meets_its_end(app: App) -> None:
    engine = app("""
        import os, subprocess, sys
        def answer(prompt):
            child = subprocess.run(["cat"], capture_output=True, check=True).stdout
            return repr((sys.stdin.read(), os.read(0, 10), child))
    """)

    assert engine.generate("one").text == repr(("", b"", b""))
    assert engine.generate("two").output_tokens == 1


def test_the_plugins_own_modules_are_not_in_the_applications_way(app: App) -> None:
    engine = app("""
        from importlib.util import find_spec
        def answer(prompt):
            return repr([name for name in ("wire", "app", "handle") if find_spec(name)])
    """)

    assert engine.generate("hi").text == "[]"
