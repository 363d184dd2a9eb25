"""The app engine: calls the application's own function in the worker and times what it yields."""

from __future__ import annotations

import importlib
import inspect
import operator
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from typing import TYPE_CHECKING, Any

from pytest_llmperf.engine.base import Pause, TokenSink
from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.generation import FinishReason, Generation
from pytest_llmperf.engine.own_time import OWN_TIME
from pytest_llmperf.engine.planted import Delay
from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine.safe_description import describe_exception, describe_object
from pytest_llmperf.timeline import Timeline

if TYPE_CHECKING:
    import asyncio

#: Token ids must fit into this many bits; no vocabulary comes near.
_TOKEN_ID_BITS = 63
_YIELD = "yield each token as it comes"
_OF_NOTEBOOK = (
    "; functions of a notebook or script are not in the engine's own process: put this one into a "
    "module, a .py file beside it, and name that"
)
_EXITS = (
    ": the module ends the process while it is imported; put what it runs as a script under "
    "if __name__ == '__main__'"
)


class AppEngine:
    """Calls ``target`` ("package.module:callable") with the prompt, or the messages of a chat.

    The callable may return text, an iterable or an async iterable of text or
    token ids, or be a coroutine function. Each item it yields is one output
    token, and the items of a list arrive all at once. It also
    receives those of ``max_tokens``, ``stop``, ``seed`` and the sampling
    parameters that its signature names.

    A planted ``delay`` waits between the items. ``glance`` is called once in each request,
    after its first item.

    Raises:
        EngineLoadError: the target can't be imported or isn't callable.
    """

    def __init__(
        self,
        config: dict[str, Any],
        delay: Delay | None = None,
        glance: Callable[[], None] = lambda: None,
    ) -> None:
        self._delay = delay
        self._glance = glance
        self._target = str(config["target"])
        module_name, _, attribute = self._target.partition(":")
        try:
            function: Any = importlib.import_module(module_name)
            for name in attribute.split("."):
                function = getattr(function, name)
        except BaseException as error:  # importing it runs arbitrary code
            raise EngineLoadError(
                f"llm.target {self._target!r} could not be loaded: {describe_exception(error)}"
                + (_EXITS if isinstance(error, SystemExit) else "")
                + (_OF_NOTEBOOK if module_name == "__main__" else "")
            ) from error
        if not callable(function):
            raise EngineLoadError(
                f"llm.target {self._target!r} is not callable: {describe_object(function)}"
            )
        self._function = function
        try:
            parameters = inspect.signature(function).parameters.values()
        except Exception:
            parameters = ()  # type: ignore[assignment]
        self._accepts_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._accepts = {p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY}
        self._loop: asyncio.AbstractEventLoop | None = None

    def info(self) -> dict[str, Any]:
        """Return the target's name; an application does not report its model."""
        return {"engine": "app", "engine_version": "1", "model_name": self._target}

    def reset(self) -> None:
        """Do nothing: an application manages its own state."""

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def generate(
        self, request: Request, sink: TokenSink | None, pause: Pause | None = None
    ) -> Generation:
        """Run one request; see Engine.generate."""
        offered = {
            "max_tokens": request.max_tokens,
            "stop": list(request.stop) or None,
            "seed": request.seed,
            **request.sampling,
        }
        arguments = {
            name: value
            for name, value in offered.items()
            if value is not None and (self._accepts_all or name in self._accepts)
        }
        prompt: Any = request.prompt if request.messages is None else list(request.messages)
        if self._delay is not None:
            pause = pause and self._delay.around(pause)
        clock = OWN_TIME.now
        times: list[float] = []
        ids: list[int] = []
        texts: list[str] = []
        finish: FinishReason = "end"
        t_start = clock()
        try:
            answer = self._answer(prompt, arguments)
            at_once = clock() if _is_complete(answer) else None
            for item in self._paced(self._items(answer), in_turns=pause is not None):
                now = clock() if at_once is None else at_once
                if not times:
                    self._glance()
                token, text = _token_and_text(item)
                times.append(now)
                texts.append(text)
                if token is not None:
                    ids.append(token)
                if sink is not None:
                    sink(token, text, now)
                if request.max_tokens is not None and len(times) >= request.max_tokens:
                    finish = "length"
                    break
                if pause is not None:
                    pause(len(times))
        except _UnusableItemError as error:
            raise EngineError(f"{self._target} {error}") from None
        except SystemExit:
            raise
        except BaseException as error:  # such as asyncio.CancelledError
            raise EngineError(f"{self._target} raised {describe_exception(error)}") from error
        if not times:
            raise EngineError(
                f"{self._target} yielded nothing: there is no token to time; {_YIELD}"
            )
        return Generation(
            text="".join(texts),
            token_ids=tuple(ids),
            prompt_token_ids=(),
            timeline=Timeline(t_start=t_start, token_times=tuple(times)),
            finish_reason=finish,
            cache=request.cache,
        )

    def _paced(self, items: Iterator[Any], *, in_turns: bool) -> Iterator[Any]:
        return items if self._delay is None else self._delay.spaced(items, in_turns=in_turns)

    def _answer(self, question: Any, arguments: dict[str, Any]) -> Any:
        answer = self._function(question, **arguments)
        return self._wait(answer) if inspect.isawaitable(answer) else answer

    def _items(self, answer: Any) -> Iterator[Any]:
        """Iterate over the application's answer, whatever its type."""
        if isinstance(answer, str | bytes | int):
            yield answer
        elif isinstance(answer, AsyncIterable):
            yield from self._pull(answer)
        elif isinstance(answer, Iterable) and not isinstance(answer, Mapping):
            yield from answer
        else:
            raise _UnusableItemError(
                f"returned {type(answer).__name__}; text, or an iterable of text or token ids, "
                f"expected: {_YIELD}"
            )

    def _wait(self, awaitable: Awaitable[Any]) -> Any:
        """Run an awaitable on the engine's one event loop.

        Connections that an application opened on it must serve the next request, too.
        """

        async def wait() -> Any:
            return await awaitable

        if self._loop is None:
            # Most applications need none, and its import takes a fifth of a worker's start.
            import asyncio

            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(wait())

    def _pull(self, stream: AsyncIterable[Any]) -> Iterator[Any]:
        """Pull an async iterable from synchronous code, one item at a time."""
        end = object()
        iterator = aiter(stream)
        try:
            while (item := self._wait(anext(iterator, end))) is not end:
                yield item
        finally:
            if isinstance(iterator, AsyncGenerator):
                self._wait(iterator.aclose())


def _is_complete(answer: object) -> bool:
    """Whether all items exist already, as in a list, so that they arrive at the same time."""
    return isinstance(answer, list | tuple | set | frozenset) or hasattr(type(answer), "__array__")


class _UnusableItemError(Exception):
    """The application returned or yielded something unusable; the message names it."""


def _token_and_text(item: Any) -> tuple[int | None, str]:
    """Return the token id and the text of one item."""
    if isinstance(item, str):
        return None, item
    if isinstance(item, bytes):
        return None, bytes.decode(item, "utf-8", "replace")
    try:
        # numpy's integers are token ids, too; a bool is an integer by accident.
        token = None if isinstance(item, bool) else operator.index(item)
    except TypeError:
        token = None
    if token is None:
        raise _UnusableItemError(f"yielded {type(item).__name__}; text or a token id expected")
    if token < 0 or token.bit_length() > _TOKEN_ID_BITS:
        # Integers of thousands of digits can't even be printed.
        bits = token.bit_length()
        number = f"an integer of {bits} bits" if bits > _TOKEN_ID_BITS + 1 else str(token)
        raise _UnusableItemError(
            f"yielded {number}; a token id is an integer from 0 to 2**{_TOKEN_ID_BITS} - 1"
        )
    return token, ""
