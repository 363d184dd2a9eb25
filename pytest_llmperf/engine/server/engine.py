"""The server engine: asks an OpenAI-compatible server that it starts or that runs already."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from pytest_llmperf.config.server_arguments import started_command
from pytest_llmperf.engine.base import TokenSink
from pytest_llmperf.engine.errors import EngineError, EngineGoneError, EngineLoadError
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.kinds import place_text, replicas_text
from pytest_llmperf.engine.own_time import OWN_TIME
from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine.server.about import (
    UNKNOWN_BUILD,
    ServerDescription,
    ask_for_description,
    root_of,
    status_of,
)
from pytest_llmperf.engine.server.answer import ServerAnswer, ServerRequest
from pytest_llmperf.engine.server.counter_watch import CounterWatch
from pytest_llmperf.engine.server.counters import ServerCounters, read_counters
from pytest_llmperf.engine.server.fault import ServerFault
from pytest_llmperf.engine.server.generation_of_answer import TEMPLATE_TOKENS, generation_of
from pytest_llmperf.engine.server.generator import quiet_gc
from pytest_llmperf.engine.server.hints import hint
from pytest_llmperf.engine.server.load_result import LoadResult
from pytest_llmperf.engine.server.process import ServerProcess
from pytest_llmperf.engine.server.prompts import CacheUse, with_cache_use
from pytest_llmperf.engine.server.replicas import replica_difference, unreachable
from pytest_llmperf.engine.server.schedule import Schedule
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.engine.server.settings import ServerSettings, ServerSettingsError, shown_url
from pytest_llmperf.units import format_duration

try:
    from pytest_llmperf.engine.server.client import ServerClient
    from pytest_llmperf.engine.server.load_part import LoadPart, SentPart
    from pytest_llmperf.engine.server.load_processes import LoadProcesses
except EngineError as error:
    raise EngineLoadError(str(error)) from None

_Result = TypeVar("_Result")
#: Share of the time limit after which a server is given up, before the engine process itself is.
_LOAD_SHARE = 0.8
_POLL_S = 0.05
#: Seconds to wait for the end of a server whose connection broke.
_END_WAIT_S = 1.0
_FIRST_PROMPT, _FIRST_TOKENS = "Say hello.", 4
#: Seconds that a first answer may take even if no time to load is left.
_LEAST_FIRST_S = 0.1
#: HTTP statuses by which strict servers refuse an unknown field of the body.
_UNKNOWN_FIELD = (400, 422)
#: Number of first answers without any text after which such an answer is accepted.
_MAX_WORDLESS = 3
#: HTTP statuses of a server that is overloaded, or still loading its model.
_BUSY = (429, 503)


class ServerEngine:
    """Engine that asks a server: one request at a time, or a load of many.

    Raises:
        EngineLoadError: the server could not be started, or answers no request.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._draw = random.Random()
        self._loop = asyncio.new_event_loop()
        self._closing = contextlib.AsyncExitStack()
        self._process: ServerProcess | None = None
        self._further: LoadProcesses | None = None
        self._takes_ignore_eos = True
        self._replicas: list[ServerSettings] = []
        until = OWN_TIME.now() + _LOAD_SHARE * float(config["load_timeout"])
        try:
            if config["start"] is not None:
                self._process = ServerProcess(started_command(config["start"], config["extra"]))
            url = config["url"] if self._process is None else self._process.url
            self._settings = ServerSettings.of_section(config, url)
            self._shown = shown_url(self._settings.url)
            behind = config["replicas"] or ()
            self._replicas = [replace(self._settings, url=address) for address in behind]
            self._client = self._run(self._closing.enter_async_context(self._new_client()))
            if self._process is not None:
                self._run(self._until_up(self._process, until))
            replicas = self._run(self._warm_replicas(until))
            first = self._run(self._first_answer(self._client, until))
            self._about = self._run(
                ask_for_description(self._settings, first.model, first.fingerprint)
            )
            if text := replica_difference([*replicas, (self._shown, self._about)]):
                raise EngineLoadError(text)
            if (further := config["client_processes"] - 1) > 0:
                self._further = LoadProcesses(self._settings, further)
        except ServerSettingsError as error:
            self.close()
            raise EngineLoadError(str(error)) from None
        except BaseException:
            self.close()
            raise
        self._answers_as = (first.model, first.fingerprint)

    def info(self) -> dict[str, Any]:
        """Return the model and build that answer, as the server itself reports them."""
        about = self._about
        where = ""
        if self._process is None:
            where = f"{',' if self._replicas else ''} {place_text(self._config, self._shown)}"
        return {
            "engine_version": about.build or UNKNOWN_BUILD,
            "model_name": f"{about.identity}{where}",
            "model_title": about.model,
            "quantization": about.quantization,
            "parameters": about.parameters,
            "model_bytes": about.model_bytes,
            "n_ctx": about.n_ctx,
            "slots": about.slots,
        }

    def generate(self, request: Request, sink: TokenSink | None) -> Generation:
        """Ask the server; see Engine.generate. The sink gets its chunks at the end."""
        try:
            with quiet_gc(1):
                answer = self._run(self._ask(self._request(request)))
        except ServerFault as fault:
            self._check_process(_END_WAIT_S if fault.kind in ("connect", "reset") else 0.0)
            silence = None if self._config["idle_timeout"] is None else "llm.idle_timeout"
            advice = hint(fault, self._settings, "llm.generation_timeout", silence)
            raise EngineError(f"{fault}{advice}") from None
        if (answer.model, answer.fingerprint) != self._answers_as:
            raise self._other_server((answer.model, answer.fingerprint))
        is_shared = self._is_shared(request)
        generation = generation_of(answer, request, self._settings.api, is_shared=is_shared)
        for chunk in answer.output_chunks if sink is not None else ():
            assert sink is not None
            sink(None, chunk.reasoning + chunk.text, chunk.time)
        return generation

    def load(self, requests: Sequence[Request], schedule: Mapping[str, Any]) -> LoadResult:
        """Send requests on a schedule, several at a time; see EngineClient.load."""
        server_requests = tuple(self._request(request, is_unique=False) for request in requests)
        when = self._with_traced(Schedule.from_wire(schedule), requests[0])
        # All requests are treated alike: they may use the cache only if each of them may.
        shared = all(map(self._is_shared, requests))
        use: CacheUse = "shared" if shared else self._without_cache
        count: int = self._config["client_processes"]
        if when.concurrency is not None:
            count = min(count, when.concurrency)
        parts = [LoadPart(server_requests, when, use, index, count) for index in range(count)]
        sent, servers = self._run(self._send(parts))
        result = LoadResult.merged(when, [part.result for part in sent])
        if gone := self._run(unreachable(self._replicas)):
            raise EngineError(
                f"no server answers at {', '.join(gone)} any more, so the load did not run on "
                f"{replicas_text(self._replicas)}; start it again and repeat the measurement, or "
                "take it out of llm.replicas and of the balancer"
            )
        if all(outcome.fault is not None for outcome in result.outcomes):
            self._check_process(_END_WAIT_S)
        for other in frozenset().union(*(part.answered_as for part in sent)) - {self._answers_as}:
            raise self._other_server(other)
        cached = None if shared else TEMPLATE_TOKENS[self._settings.api]
        return replace(result, max_cached=cached, servers=servers)

    def counters(self) -> dict[str, dict[str, Any] | None]:
        """Return each server's own counters, by name; None if it publishes none."""

        async def read() -> list[ServerCounters | None]:
            return await asyncio.gather(*map(read_counters, self._counting.values()))

        readings = zip(self._counting, self._run(read()), strict=True)
        return {name: None if counts is None else asdict(counts) for name, counts in readings}

    @property
    def _counting(self) -> dict[str, ServerSettings]:
        """The servers whose counters are read, by their names in reports.

        A balancer's counters would come from a different replica each time, and a server that is
        started here gets a different port each time.
        """
        if self._replicas:
            return {shown_url(replica.url): replica for replica in self._replicas}
        return {self._shown if self._process is None else "llm.start": self._settings}

    def reset(self) -> None:
        """Do nothing: prompts are made unique instead of clearing a cache."""

    def close(self) -> None:
        """Close the connections, and stop the server if it was started here."""
        try:
            if self._further is not None:
                self._further.close()
            self._run(self._closing.aclose())
            self._loop.close()
        finally:
            if self._process is not None:
                self._process.stop()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self._loop.run_until_complete(work)

    def _new_client(self) -> ServerClient:
        return ServerClient(self._settings, OWN_TIME.now)

    async def _send(
        self, parts: Sequence[LoadPart]
    ) -> tuple[list[SentPart], dict[str, ServerSide | None]]:
        """Send the parts of a load, the first from this process; watch each server meanwhile."""
        await self._notice_closed()
        async with contextlib.AsyncExitStack() as watching:
            watches = {
                name: await watching.enter_async_context(CounterWatch(settings))
                for name, settings in self._counting.items()
            }
            if len(parts) == 1 or self._further is None:
                sent = [await parts[0].send(self._client, OWN_TIME.now)]
            else:
                begin = self._further.begin(parts[1:])
                sent = [await parts[0].send(self._client, OWN_TIME.now, begin)]
                sent += await asyncio.to_thread(self._further.sent)
        return sent, {name: watch.summary for name, watch in watches.items()}

    async def _until_up(self, process: ServerProcess, until: float) -> None:
        """Wait until the server accepts connections and has loaded its model."""
        health = f"{root_of(self._settings.url)}/health"
        while True:
            status = await status_of(health)
            if text := process.describe_end_if_ended():
                raise EngineLoadError(f"{text}\nhint: llm.start is the command that was run")
            if status is not None and status < 500:
                return
            if OWN_TIME.now() > until:
                said = "no connection" if status is None else f"HTTP status {status}"
                raise EngineLoadError(process.with_last_lines(self._late(f"/health: {said}")))
            await asyncio.sleep(_POLL_S)

    def _late(self, what: str) -> str:
        waited = format_duration(_LOAD_SHARE * float(self._config["load_timeout"]))
        return (
            f"the server that llm.start started was not ready after {waited} ({what}); if it "
            "needs longer, raise llm.load_timeout"
        )

    async def _warm_replicas(self, until: float) -> list[tuple[str, ServerDescription]]:
        """Have each replica answer a real request; return each replica's address and account."""
        found = []
        for own in self._replicas:
            async with ServerClient(own, OWN_TIME.now) as client:
                try:
                    first = await self._first_answer(client, until)
                except EngineLoadError as error:
                    raise EngineLoadError(
                        f"llm.replicas: {shown_url(own.url)}: {error}; start it, or take it out of "
                        "llm.replicas and of the balancer"
                    ) from None
            found.append(
                (shown_url(own.url), await ask_for_description(own, first.model, first.fingerprint))
            )
        return found

    async def _first_answer(self, client: ServerClient, until: float) -> ServerAnswer:
        """Ask until the server answers a real request; note whether it accepts ``ignore_eos``.

        A first answer may take as long as is left of the time to load: some servers load or
        compile only when first asked.
        """
        chat = self._settings.api == "chat"
        first = Request(
            prompt=None if chat else _FIRST_PROMPT,
            messages=({"role": "user", "content": _FIRST_PROMPT},) if chat else None,
            max_tokens=_FIRST_TOKENS,
        )
        wordless = 0
        while True:
            within = round(max(until - OWN_TIME.now(), _LEAST_FIRST_S), 1)
            try:
                answer = await client.ask(self._request(first, is_first=True), within=within)
                if not answer.output_chunks and wordless < _MAX_WORDLESS:
                    # A few tokens may be less than a character; another prompt may give text.
                    wordless += 1
                    continue
                generation_of(answer, first, self._settings.api, is_shared=True)
                return answer
            except ServerFault as fault:
                if fault.status in _UNKNOWN_FIELD and self._takes_ignore_eos:
                    self._takes_ignore_eos = False
                    continue
                process = self._process
                if process is not None and (text := process.describe_end_if_ended()):
                    raise EngineLoadError(text) from None
                loads = process is not None and fault.kind in ("connect", "reset")
                if (loads or fault.status in _BUSY) and OWN_TIME.now() < until:
                    await asyncio.sleep(_POLL_S)
                    continue
                advice = hint(fault, self._settings, "llm.load_timeout")
                text = f"the server does not answer a first request: {fault}{advice}"
                raise EngineLoadError(process.with_last_lines(text) if process else text) from None
            except EngineError as error:
                raise EngineLoadError(str(error)) from None

    async def _ask(self, request: ServerRequest) -> ServerAnswer:
        await self._notice_closed()
        return await self._client.ask(request)

    def _other_server(self, now: tuple[str | None, str | None]) -> EngineError:
        return EngineError(
            f"{self._shown}: a different server answered: model and build were "
            f"{_named(self._answers_as)}, now {_named(now)}; measure one server, or list identical "
            "servers in llm.replicas"
        )

    def _is_shared(self, request: Request) -> bool:
        """Whether the server may take the prompt from its cache."""
        return self._config["cache"] == "shared" or request.cache == "keep"

    def _with_traced(self, schedule: Schedule, recorded: Request) -> Schedule:
        """Return the schedule with the trace's requests in the form of the test's first one."""
        traced = (
            None
            if entry is None
            else self._request(
                replace(
                    recorded,
                    prompt=entry.prompt,
                    messages=None if entry.messages is None else tuple(map(dict, entry.messages)),
                    max_tokens=entry.max_tokens or recorded.max_tokens,
                ),
                is_unique=False,
            )
            for entry in schedule.traced
        )
        return replace(schedule, traced=tuple(traced))

    @property
    def _without_cache(self) -> CacheUse:
        """How to keep the server from serving prompts from its cache."""
        return "off" if self._about.is_llama_cpp else "unique"

    @staticmethod
    async def _notice_closed() -> None:
        """Let the event loop, idle since the last request, drop connections closed meanwhile."""
        await asyncio.sleep(0)

    def _request(
        self, request: Request, *, is_first: bool = False, is_unique: bool = True
    ) -> ServerRequest:
        """Return a request in the server's form; ``is_unique``: make its prompt unique if needed.

        Raises:
            EngineError: the server's API can't express it.
        """
        if request.messages is not None and self._settings.api == "completions":
            raise EngineError(
                "the server's completions API takes a prompt, not a chat; set llm.api: chat, or "
                "call generate() with the formatted text"
            )
        if isinstance(request.prompt, tuple) and self._settings.api == "chat":
            raise EngineError(
                "the server's chat API takes text, not token ids; set llm.api: completions, or "
                "pass text"
            )
        body: dict[str, Any] = dict(request.sampling)
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.grammar is not None:
            body["grammar"] = request.grammar
        if not (request.ignore_eos and self._takes_ignore_eos):
            body["ignore_eos"] = None
        messages = request.messages
        if self._settings.api == "chat" and messages is None:
            messages = ({"role": "user", "content": request.prompt},)
        server_request = ServerRequest(
            prompt=None if messages is not None else request.prompt,
            messages=messages,
            max_tokens=request.max_tokens,
            body=body,
        )
        if not is_unique or self._is_shared(request):
            return server_request
        # Nothing is known about the server before it has answered once.
        return with_cache_use(
            server_request, "unique" if is_first else self._without_cache, self._draw
        )

    def _check_process(self, within: float) -> None:
        """Raise if the server that was started here has ended, or ends ``within`` some seconds.

        Raises:
            EngineGoneError: it has ended; the message has its last lines.
        """
        if self._process is not None and (text := self._process.describe_end_if_ended(within)):
            raise EngineGoneError(text)


def _named(answered: tuple[str | None, str | None]) -> str:
    return " ".join(part or "unnamed" for part in answered)
