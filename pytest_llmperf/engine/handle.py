"""``llm_engine``, the engine object in tests: generate, chat, stream, info, GPU layers."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from pytest_llmperf.engine.client import EngineClient, LaunchSpec, StreamToken, drain
from pytest_llmperf.engine.device_lock import DeviceLock
from pytest_llmperf.engine.errors import EngineError, EngineGoneError
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.load_report import GpuUtilization
from pytest_llmperf.engine.request import Request, build_request

_log = logging.getLogger("pytest_llmperf")

#: Called after every finished request.
Observer = Callable[[Request, Generation], None]


class TokenStream(Iterator[StreamToken]):
    """Tokens of a request as they arrive; ``generation`` is the whole outcome.

    Stopping early is allowed: ``close()``, or the end of a ``with`` block, waits
    for the engine to finish the request.
    """

    def __init__(self, source: Generator[StreamToken, None, Generation]) -> None:
        self._source = source
        self._generation: Generation | None = None

    def __next__(self) -> StreamToken:
        """Wait for the next token."""
        try:
            return next(self._source)
        except StopIteration as end:
            if end.value is not None:
                self._generation = end.value
            raise StopIteration from None

    @property
    def generation(self) -> Generation:
        """The whole outcome; reads the rest of the stream first."""
        for _ in self:
            pass
        if self._generation is None:
            raise EngineError("the stream was closed before its end: it has no Generation")
        return self._generation

    def close(self) -> None:
        """Stop listening."""
        self._source.close()

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LlmEngine:
    """The engine of a session: one worker process, started when first needed.

    If the worker crashes or hangs, the request it was running fails, and the next
    one starts a new worker. Requests from several threads wait for each other; a
    request that would wait for a stream left open by its own thread is refused.

    Args:
        spec: how to start the worker.
        max_tokens: default number of output tokens of a request.
        lock: held while a worker lives, so that only one engine holds the device.
    """

    def __init__(self, spec: LaunchSpec, max_tokens: int, lock: DeviceLock | None = None) -> None:
        self._spec = self._wanted = spec
        self._max_tokens = None if spec.kind.ends_by_itself else max_tokens
        self._lock = lock
        self._client: EngineClient | None = None
        # Not an RLock: a stream is opened, read and closed by whatever threads a test uses.
        self._turn = threading.Lock()
        self._turn_thread: int | None = None
        self._last_stream: TokenStream | None = None
        self.observer: Observer | None = None
        #: Facts about the last worker's engine, kept after its end; ``own_info``: about the last
        #: one that had this engine's own settings.
        self.last_info: EngineInfo | None = None
        self.own_info: EngineInfo | None = None
        #: Seconds the last start of a worker took, its load included.
        self.start_seconds = 0.0

    def generate(self, prompt: str | list[int], **options: Any) -> Generation:
        """Complete ``prompt`` (text, or token ids) and return the Generation.

        Args:
            prompt: tokenized as part of the measured time, unless it is token ids.
            options: ``max_tokens`` (default: ``llm.max_tokens``), ``ignore_eos``
                (default True: the number of output tokens is fixed), ``stop``,
                ``grammar``, ``seed``, ``cache="keep"`` (reuse the KV cache of the
                request before; metrics then compare only with the same), and the
                sampling parameters ``temperature`` (default 0: greedy), ``top_k``,
                ``top_p``, ``min_p``, ``typical_p``, ``repeat_penalty``,
                ``frequency_penalty``, ``presence_penalty``, ``mirostat_mode``,
                ``mirostat_tau``, ``mirostat_eta``.

        Raises:
            TypeError, ValueError: a wrong argument, before anything runs.
            EngineError: the engine can't meet the request.
            EngineGoneError: the engine crashed or hung.
        """
        return self._finish(self._request(prompt=prompt, **options))

    def chat(self, messages: list[dict[str, Any]], **options: Any) -> Generation:
        """Answer a chat, formatted with the model's own template; options as for generate."""
        return self._finish(self._request(messages=messages, **options))

    def stream(
        self,
        prompt: str | list[int] | None = None,
        *,
        messages: list[dict[str, Any]] | None = None,
        **options: Any,
    ) -> TokenStream:
        """Yield tokens as they arrive, for a prompt or a chat; options as for generate."""
        if (prompt is None) == (messages is None):
            raise TypeError("stream: give either a prompt or messages=")
        request = self._request(prompt=prompt, messages=messages, stream=True, **options)
        self._last_stream = TokenStream(self._run(request))
        return self._last_stream

    @property
    def spec(self) -> LaunchSpec:
        """The settings of the next request."""
        return self._wanted

    def use(self, spec: LaunchSpec | None = None) -> None:
        """Use another spec's settings from the next request on; None restores the engine's own."""
        self._wanted = spec or self._spec

    @property
    def info(self) -> EngineInfo:
        """Facts about the loaded engine: model, quantization, sizes, layers, build, threads."""
        return self.start().info

    def verify_gpu_utilization(self) -> GpuUtilization:
        """Return the layers on each device; log ``GPU Utilization: X/Y layers on GPU``.

        Raises:
            EngineError: the engine does not report it (an ``app`` engine).
        """
        utilization = self.info.gpu
        if utilization is None:
            raise EngineError(f"engine {self._spec.engine!r} does not report where its layers are")
        _log.info("%s", utilization)
        return utilization

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, or None while there is none."""
        return self._client.pid if self._client is not None else None

    def start(self) -> EngineClient:
        """Start the worker if there is none; it loads the model.

        Raises:
            EngineLoadError, EngineGoneError, DeviceBusyError: it could not be started.
        """
        client = self._client
        if client is not None and client.alive and client.has_settings(self._wanted):
            return client
        with self._taking_turn():
            return self._started()

    def modules(self, names: Iterable[str]) -> dict[str, str]:
        """Return the files of those modules that the worker has imported; {} without a worker."""
        self.finish_stream()
        with self._taking_turn():
            if self._client is None or not self._client.alive:
                return {}
            return self._client.modules(names)

    def reset(self) -> None:
        """Empty the KV cache, if there is a worker that could hold one.

        A stream that its reader left open (a test that failed half-way) is ended first.
        """
        self.finish_stream()
        with self._taking_turn():
            client = self._client
            # A worker that has yet to take other settings starts with an empty cache.
            if client is not None and client.alive and client.has_settings(self._wanted):
                client.reset()

    def finish_stream(self) -> None:
        """Let the engine finish a stream left open by its reader; the request then counts."""
        if self._blocked_by_own_stream() and self._last_stream is not None:
            self._last_stream.close()

    def close(self) -> None:
        """End the worker and free the device; the next request starts a new one.

        A request that is still running is ended with it.
        """
        ours = self._turn.acquire(blocking=False)
        try:
            self._end(at_once=not ours)
        finally:
            if ours:
                self._turn.release()

    def _started(self) -> EngineClient:
        client, wanted = self._client, self._wanted
        if client is not None and not (client.alive and client.configure(wanted)):
            self._end()
        if self._client is None:
            if self._lock is not None:
                self._lock.acquire()
            began = time.monotonic()
            try:
                self._client = EngineClient.start(wanted)
                self.start_seconds = time.monotonic() - began
            except BaseException:
                self._end()
                raise
        self.last_info = self._client.info
        if wanted == self._spec:
            self.own_info = self.last_info
        return self._client

    def _end(self, *, at_once: bool = False) -> None:
        client, self._client = self._client, None
        try:
            if client is not None and at_once:
                client.kill()
            elif client is not None:
                client.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def _blocked_by_own_stream(self) -> bool:
        return self._turn.locked() and self._turn_thread == threading.get_ident()

    @contextlib.contextmanager
    def _taking_turn(self) -> Iterator[None]:
        """Hold the engine for one request; wait for other threads' requests first."""
        if self._blocked_by_own_stream():
            raise EngineError(
                "a stream of this engine is still open: read it to its end, or close() it, "
                "before the next request"
            )
        self._turn.acquire()
        self._turn_thread = threading.get_ident()
        try:
            yield
        finally:
            self._turn_thread = None
            self._turn.release()

    def _request(self, **options: Any) -> Request:
        return build_request(**{"max_tokens": self._max_tokens, **options})

    def _finish(self, request: Request) -> Generation:
        return drain(self._run(request))

    def _run(self, request: Request) -> Generator[StreamToken, None, Generation]:
        def observe(generation: Generation) -> None:
            if self.observer is not None:
                self.observer(request, generation)

        with self._taking_turn():
            client = self._started()
            try:
                return (yield from client.stream(request, observe))
            except EngineGoneError:
                self._end()
                raise
