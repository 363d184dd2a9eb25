"""Applications that break rules are measured correctly anyway, or get an error that says why."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pytest_llmperf.engine.errors import EngineError, EngineGoneError, EngineLoadError
from pytest_llmperf.engine.handle import LlmEngine

App = Callable[..., LlmEngine]

AB = "    yield 'a'\n    yield 'b'\n"

#: Each answers "ab" twice, with correct times, whatever it did before.
HARMLESS = {
    "a clock that stands": "import time\ntime.perf_counter = lambda: 0.0\ndef answer(_):\n" + AB,
    "a clock that is no number": (
        "import time\ntime.perf_counter = lambda: float('nan')\ndef answer(_):\n" + AB
    ),
    "a clock that is replaced wherever a module names it": (
        "import sys, time\n"
        "real = time.perf_counter, time.monotonic, time.sleep\n"
        "for module in list(sys.modules.values()):\n"
        "    for name, value in list(vars(module).items()):\n"
        "        if any(value is one for one in real):\n"
        "            setattr(module, name, lambda *_: 0.0)\n"
        "def answer(_):\n" + AB
    ),
    "json of its own": (
        "import json\njson.dumps = lambda *_, **__: b'mine'\njson.loads = lambda *_: 1 / 0\n"
        "def answer(_):\n" + AB
    ),
    "a fork that comes back": "import os\ndef answer(_):\n    os.fork()\n" + AB,
    "a fork that comes back while it loads": "import os\nos.fork()\ndef answer(_):\n" + AB,
    "little recursion": "import sys\ndef answer(_):\n    sys.setrecursionlimit(12)\n" + AB,
    "no standard streams": (
        "import sys\ndef answer(_):\n    sys.stdin = sys.stdout = sys.stderr = None\n" + AB
    ),
    "closed standard streams": "import os\ndef answer(_):\n    os.closerange(0, 3)\n" + AB,
    "binary noise": (
        "import os\ndef answer(_):\n"
        "    os.write(1, bytes(range(256)) * 99)\n    os.write(2, b'\\xff' * 99)\n" + AB
    ),
    "signals, folder, variables and modules": (
        "import os, signal, sys\n"
        "def answer(_):\n"
        "    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "        signal.signal(number, signal.SIG_IGN)\n"
        "    os.chdir('/')\n    os.environ.clear()\n    sys.path.clear()\n"
        "    for name in [one for one in sys.modules if one.startswith('pytest_llmperf')]:\n"
        "        del sys.modules[name]\n" + AB
    ),
    "limits": (
        "import gc, resource\n"
        "def answer(_):\n"
        "    gc.freeze()\n    gc.disable()\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n" + AB
    ),
    "types derived from text": (
        "class Text(str):\n    def __str__(self): raise ValueError\n"
        "class Bytes(bytes):\n    def decode(self, *_): return 5\n"
        "def answer(_):\n    yield Text('a')\n    yield Bytes(b'b')\n"
    ),
}

#: Each is refused with these words, and the process lives on.
REFUSED = {
    "an error": (
        "def answer(_): raise ValueError('bad')",
        r"^application:answer raised ValueError: bad \(.*application.py:1\)$",
    ),
    "an error without words": (
        "class Mute(Exception):\n    def __str__(self): raise RuntimeError('no')\n"
        "def answer(_): raise Mute",
        r"^application:answer raised Mute \(it has no text: its __str__ raised RuntimeError\) "
        r"\(.*application.py:3\)$",
    ),
    "an error that exits when it is shown": (
        "class Exits(Exception):\n    def __str__(self): raise SystemExit(3)\n"
        "def answer(_): raise Exits",
        "raised Exits .*its __str__ raised SystemExit",
    ),
    "a token id of 5,000 digits": (
        "def answer(_): yield 10 ** 5000",
        r"^application:answer yielded an integer of 16610 bits; a token id is an integer",
    ),
    "a negative token id": ("def answer(_): yield -1", "yielded -1; a token id is"),
    "a bool": ("def answer(_): yield True", "yielded bool; text or a token id expected"),
    "a float": ("def answer(_): yield 0.5", "yielded float; text or a token id expected"),
    "cancelled": (
        "import asyncio\nasync def answer(_): raise asyncio.CancelledError",
        r"^application:answer raised CancelledError \(.*application.py:2\)$",
    ),
    "interrupted": (
        "def answer(_): raise KeyboardInterrupt",
        r"raised KeyboardInterrupt \(.*application.py:1\)",
    ),
    "an exit of a generator": ("def answer(_): raise GeneratorExit", "raised GeneratorExit"),
    "an error as long as a book": (
        "def answer(_): raise ValueError('x' * 10_000_000)",
        r"^application:answer raised ValueError: x{900,1100} \.\.\. x{900,1100} \(.*py:1\)$",
    ),
}

#: Each loses its process, and the error says how in these words.
LOST = {
    "the engine's own pipes closed": (
        "import os\ndef answer(_):\n    os.closerange(0, 256)\n" + AB,
        r"(?s)lost its connection to pytest while generating.*"
        r"hint: the application closed or replaced file descriptors that it did not open",
    ),
    "the engine's own pipes replaced": (
        "import os\ndef answer(_):\n"
        "    null = os.open(os.devnull, os.O_RDWR)\n"
        "    for number in range(20):\n        os.dup2(null, number)\n" + AB,
        "lost its connection to pytest while generating",
    ),
    "an exit": (
        "import sys\ndef answer(_): sys.exit(7)",
        r"(?s)ended with exit status 7 while generating.*application.py\", line 2, in answer",
    ),
    "an exit at once": ("import os\ndef answer(_): os._exit(9)", "ended with exit status 9"),
    "a limit of CPU time": (
        "import os, signal\ndef answer(_): os.kill(os.getpid(), signal.SIGXCPU)",
        "(?s)ended by SIGXCPU while generating.*hint: .*limit of CPU time",
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_an_application_does_to_its_process_leaves_the_answer_right(
    app: App, name: str
) -> None:
    engine = app(HARMLESS[name])
    for generation in (engine.generate("one"), engine.stream("two").generation):
        began = time.perf_counter()
        assert generation.text == "ab"
        assert 0 < generation.metrics["end_to_end"] < 30 + time.perf_counter() - began


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_an_answer_is_refused_in_the_applications_name(app: App, name: str) -> None:
    source, words = REFUSED[name]
    engine = app(
        source + "\nasked, refused = [], answer\ndef answer(prompt):\n"
        "    return 'fine' if prompt == 'other' else refused(prompt)\n"
        "answer.__name__ = 'answer'\n"
    )
    engine.start()
    pid = engine.worker_pid

    with pytest.raises(EngineError, match=words) as caught:
        engine.generate("hi")

    assert not isinstance(caught.value, EngineGoneError)
    assert engine.generate("other").text == "fine"
    assert engine.worker_pid == pid


@pytest.mark.parametrize("name", LOST)
def test_a_process_that_is_lost_is_told_with_the_cause(app: App, name: str) -> None:
    source, words = LOST[name]

    with pytest.raises(EngineGoneError, match=words):
        app(source).generate("hi")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "class Mute(Exception):\n    def __str__(self): raise RuntimeError\nraise Mute",
            r"could not be loaded: Mute \(it has no text: .*\) \(.*application.py:3\)$",
        ),
        (
            "class Mute:\n    def __repr__(self): raise RuntimeError\nanswer = Mute()",
            "'application:answer' is not callable: Mute",
        ),
        (
            "import sys\nsys.exit(4)",
            r"could not be loaded: SystemExit: 4 \(.*application.py:2\): the module ends the "
            r"process while it is imported; .*__name__",
        ),
        ("raise KeyboardInterrupt", "could not be loaded: KeyboardInterrupt"),
    ],
)
def test_whatever_stops_an_import_is_a_load_error(app: App, source: str, words: str) -> None:
    with pytest.raises(EngineLoadError, match=words):
        app(source).start()


#: Reaches into the plugin's own modules, the only way left to change the clock.
LIES = """
    from pytest_llmperf.engine.own_time import OWN_TIME
    readings = iter({readings})
    OWN_TIME.now = lambda: next(readings)
    def answer(_):
        yield 'a'
        yield 'b'
"""


@pytest.mark.parametrize(
    ("readings", "flaw"),
    [
        ("[0.0, 0.0, 0.0]", "no time passed"),
        ("[0.0, float('nan'), 1.0]", "a clock reading is not a finite number"),
        ("[0.0, float('inf'), 1.0]", "a clock reading is not a finite number"),
        ("[2, 1, 0]", "token 1 came 1 s before the request began"),
        ("[0.0, 1.0, 5000.0]", "5e+03 s passed on it, and the request took 0."),
        ("['0', 1.0, 2.0]", "a clock reading is not a finite number"),
    ],
)
def test_times_that_no_clock_reads_are_an_error_that_names_the_application(
    app: App, readings: str, flaw: str
) -> None:
    with pytest.raises(EngineError, match="the times of application:answer can't be right") as info:
        app(LIES.format(readings=readings)).generate("hi")

    assert flaw in str(info.value)
    assert "remove it, and measure again" in str(info.value)


def test_an_answer_of_another_shape_is_an_error_that_names_the_application(app: App) -> None:
    engine = app("""
        from pytest_llmperf.engine.generation import Generation
        Generation.to_wire = lambda self: {"text": "a"}
        def answer(_):
            yield 'a'
    """)

    with pytest.raises(EngineError, match="the answer of application:answer can't be read"):
        engine.generate("hi")


def test_what_is_no_event_in_the_protocols_pipe_is_left_out(app: App) -> None:
    engine = app(r"""
        import os
        def answer(_):
            for number in range(3, 9):
                try:
                    os.write(number, b'\xff\n{"id": 2, "event": "token"}\n{"id": 2}\n[]\n')
                except OSError:
                    pass
            yield 'a'
            yield 'b'
    """)

    assert [token.text for token in engine.stream("hi")] == ["a", "b"]
