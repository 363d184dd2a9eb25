"""The relay that makes a server slower by a known share: its delays and its notes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from server_simulator import ServerSimulator
from simulated_answers import Plan
from slow_relay import Pace, Relay, true_slowdown

from pytest_llmperf.engine.server.answer import ServerAnswer, ServerRequest
from pytest_llmperf.engine.server.client import ServerClient
from pytest_llmperf.engine.server.settings import ServerSettings

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"f\r\ndata: {}\n\n\r\n"
END = b"0\r\n\r\n"


def paced(pace: Pace, *arrivals: tuple[bytes, float]) -> tuple[list[float], list[Any]]:
    """Return when each read may leave, and the notes taken; each read leaves at that time."""
    due, noted = [], []
    for data, at in arrivals:
        due.append(pace.due(data, at))
        noted.append(pace.left(data, at, due[-1]))
    return due, [note for note in noted if note is not None]


def test_the_time_since_the_first_chunk_grows_by_the_share():
    answer = [(HEAD, 1.0), (CHUNK, 2.0), (CHUNK, 3.0), (CHUNK, 5.0), (END, 5.0)]
    due, (done,) = paced(Pace(0.5), *answer)
    # The head and the first chunk are not held.
    assert due == [1.0, 2.0, 3.5, 6.5, 6.5]
    assert done == {"share": 0.5, "chunks": 3, "arrived": 3.0, "left": 4.5}


def test_the_next_answer_of_a_connection_begins_anew():
    pace = Pace(0.5)
    paced(pace, (CHUNK, 2.0), (CHUNK, 4.0), (END, 4.0))
    due, (done,) = paced(pace, (HEAD, 10.0), (CHUNK, 11.0), (CHUNK, 12.0), (END, 12.0))
    assert due == [10.0, 11.0, 12.5, 12.5]
    assert (done["arrived"], done["left"]) == (1.0, 1.5)


def test_an_end_that_comes_in_pieces_is_seen():
    _, noted = paced(Pace(0.0), (CHUNK, 1.0), (CHUNK + b"0\r", 2.0), (b"\n\r\n", 2.0))
    assert [note["chunks"] for note in noted] == [2]


def test_what_is_no_stream_is_not_an_answer():
    _, noted = paced(Pace(0.5), (HEAD, 1.0), (b'2\r\n{"data: 1"}\r\n' + END, 2.0))
    assert noted == []


def test_the_true_slowdown_weighs_answers_by_their_time():
    answers = [
        {"chunks": 3, "arrived": 1.0, "left": 1.1},
        {"chunks": 3, "arrived": 3.0, "left": 3.1},
        {"chunks": 1, "arrived": 0.0, "left": 0.0},
    ]
    assert true_slowdown(answers) == pytest.approx(0.05)
    assert true_slowdown([]) is None


def test_answers_pass_as_they_are_and_take_as_much_longer_as_noted():
    noted: list[Any] = []

    async def ask() -> list[ServerAnswer]:
        async with ServerSimulator(Plan(gap=0.005)) as server:
            relay = Relay(0, int(server.url.rpartition(":")[2]), 0.5, noted.append)
            async with ServerClient(ServerSettings(f"http://127.0.0.1:{relay.port}")) as client:
                received = [await client.ask(ServerRequest("hi", max_tokens=8)) for _ in range(3)]
            # An answer is noted after its last chunk has left.
            while len(noted) < len(received):
                await asyncio.sleep(0.01)
            relay.close()
            return received

    answers = asyncio.run(asyncio.wait_for(ask(), 20))
    assert [answer.output_tokens for answer in answers] == [8] * 3
    # Before its last chunk a read may hold several of them.
    assert [answer["share"] for answer in noted] == [0.5] * 3
    slowed = true_slowdown(noted)
    assert slowed is not None
    # No chunk leaves early, however late the machine is.
    assert slowed >= 0.49
