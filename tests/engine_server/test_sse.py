"""Server-sent events are found in a stream, however it was cut into reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.engine.server import sse
from pytest_llmperf.engine.server.sse import SseError, SseEvent, SseParser


def events(stream: bytes, *cuts: int) -> list[tuple[str, bytes]]:
    """Return the events of a stream that is read in parts."""
    parser, parsed, begin = SseParser(), [], 0
    for end in sorted({cut for cut in cuts if cut < len(stream)} | {len(stream)}):
        parsed += parser.feed(stream[begin:end])
        begin = end
    return [(event.name, event.data) for event in parsed]


CASES = {
    "one": (b"data: a\n\n", [("message", b"a")]),
    "without a space": (b"data:a\n\n", [("message", b"a")]),
    "only one space is dropped": (b"data:  a\n\n", [("message", b" a")]),
    "carriage returns": (b"data: a\r\n\r\ndata: b\r\r", [("message", b"a"), ("message", b"b")]),
    "several lines": (b"data: a\ndata: b\n\n", [("message", b"a\nb")]),
    "an empty line of data": (b"data\n\n", [("message", b"")]),
    "comments": (b": hello\n\n:\ndata: a\n: b\n\n", [("message", b"a")]),
    "other fields": (b"id: 1\nretry: 5\nunknown: 2\ndata: a\n\n", [("message", b"a")]),
    "no data": (b"event: ping\n\n", []),
    "named": (b"event: error\ndata: a\n\n", [("error", b"a")]),
    "an error without data": (b"event: error\n\n", [("error", b"")]),
    "an error field": (b"error: a\n\n", [("error", b"a")]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [("message", b"a")]),
    "blank lines before": (b"\n\n\ndata: a\n\n\n\n\n", [("message", b"a")]),
    "not finished": (b"data: a\n\ndata: b\n", [("message", b"a")]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_stream_has_the_same_events_however_it_is_cut(case):
    stream, expected = CASES[case]
    assert events(stream) == expected
    assert events(stream, *range(len(stream))) == expected
    for cut in range(len(stream)):
        assert events(stream, cut) == expected


@given(
    texts=st.lists(st.text(max_size=8), max_size=5),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
def test_text_of_any_characters_comes_through_any_cuts(texts, line_end, cuts):
    frames = [f"data: {json.dumps(text, ensure_ascii=False)}" for text in texts]
    stream = "".join(frame + line_end * 2 for frame in frames).encode()
    assert [json.loads(data) for _, data in events(stream, *cuts)] == texts


def test_an_event_comes_with_the_read_that_completes_it():
    parser = SseParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.rest == b"data: a"
    assert parser.feed(b"\ndata: b\n\ndata: c") == [
        SseEvent("message", b"a"),
        SseEvent("message", b"b"),
    ]
    assert parser.feed(b"\n\n") == [SseEvent("message", b"c")]
    assert parser.rest == b""


def test_an_event_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    parser = SseParser()
    parser.feed(b"x" * 60)
    with pytest.raises(SseError, match="longer than"):
        parser.feed(b"x" * 60)
