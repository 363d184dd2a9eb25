"""Server-sent events: an incremental parser over bytes."""

from __future__ import annotations

from typing import NamedTuple

#: Longer events are refused, so that a broken server can't fill the memory.
MAX_EVENT_BYTES = 8 * 2**20


class SseError(ValueError):
    """The data is not a stream of server-sent events; str() says why."""


class SseEvent(NamedTuple):
    """One event of a stream.

    Attributes:
        name: value of its ``event`` field; ``message`` without that field.
        data: its ``data`` fields, joined by newlines, as UTF-8.
    """

    name: str
    data: bytes


class SseParser:
    """Splits a stream of bytes, which arrives in arbitrary pieces, into events.

    Follows the event stream format of the HTML standard (section 9.2), with two additions for
    servers that report a failure within the stream: an ``error`` field counts as an ``error``
    event with that data, and an ``error`` event is reported even without data.
    """

    def __init__(self) -> None:
        self._rest = b""
        #: Whether the last byte was a carriage return; a line feed after it is the same line end.
        self._after_return = False
        self._begun = False

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the bytes of one read; return the events that they complete.

        Raises:
            SseError: an event exceeds the size limit.
        """
        data = self._with_plain_line_ends(data)
        if not self._begun:
            data = self._without_byte_order_mark(data)
        if self._rest:
            data = self._rest + data
        blocks = data.split(b"\n\n")
        self._rest = blocks.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise SseError(f"an event of the stream is longer than {MAX_EVENT_BYTES >> 20} MiB")
        events = []
        for block in blocks:
            # Fast path for nearly every event of nearly every server.
            if block[:6] == b"data: " and b"\n" not in block:
                events.append(SseEvent("message", block[6:]))
            elif (event := _event(block)) is not None:
                events.append(event)
        return events

    @property
    def rest(self) -> bytes:
        """Bytes of an event that is not yet complete."""
        return self._rest.strip(b"\n")

    def _with_plain_line_ends(self, data: bytes) -> bytes:
        if self._after_return and data[:1] == b"\n":
            self._after_return = False
            data = data[1:]
        if b"\r" not in data:
            self._after_return = self._after_return and not data
            return data
        self._after_return = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_byte_order_mark(self, data: bytes) -> bytes:
        mark = b"\xef\xbb\xbf"
        held = self._rest + data
        if len(held) < len(mark) and mark.startswith(held):
            self._rest = b""
            return held
        self._begun, self._rest = True, b""
        return held.removeprefix(mark)


def _event(block: bytes) -> SseEvent | None:
    """Parse the lines of one event; None if they form no event, such as a comment."""
    name, data = "message", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode(errors="replace") or "message"
        elif field == b"error":
            name = "error"
            data.append(value)
    if not data and name != "error":
        return None
    return SseEvent(name, b"\n".join(data))
