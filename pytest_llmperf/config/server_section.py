"""The part of the ``llm`` section about a server: its address or command, and its requests.

Messages contain the problem and the fix, and never a value that may be a secret.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from pytest_llmperf.config.fields import (
    ClientProcesses,
    Duration,
    Expected,
    Flag,
    HeaderValues,
    HeaderVariables,
    PromptCache,
    ServerApi,
    Text,
    plain_json_problem,
)
from pytest_llmperf.config.section import Part, Problem
from pytest_llmperf.config.server_arguments import key_problem
from pytest_llmperf.secret_headers import is_secret_name

_PORT = "{port}"
#: Names of HTTP headers (RFC 9110, section 5.6.2).
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_USE_VARIABLE = (
    "put the key into an environment variable, and its name into llm.api_key_env: files and "
    "records are no place for keys"
)
_NO_VARIABLE = "is not the name of an environment variable; the key itself does not belong here"


class ServerPart(Part):
    """Where an OpenAI-compatible server is or how it is started, and how it is asked."""

    url: Text | None = Field(
        default=None,
        description="Address of a server that runs already; null: start starts one.",
        json_schema_extra={"examples": ["http://127.0.0.1:8080"]},
    )
    start: Text | None = Field(
        default=None,
        description=(
            "Command that starts a server, without a shell, for every sample; {port} is a free "
            "port, {python} the interpreter of the project."
        ),
        json_schema_extra={"examples": ["llama-server -m model.gguf --port {port}"]},
    )
    replicas: Annotated[list[Text], Expected("a list of addresses")] | None = Field(
        default=None,
        description=(
            "Addresses of the servers that url balances over, if it does: each is warmed up and "
            "watched, and their number distinguishes baselines."
        ),
        json_schema_extra={"examples": [["http://127.0.0.1:8081", "http://127.0.0.1:8082"]]},
    )
    routing: Text | None = Field(
        default=None,
        description=(
            "How url chooses the server for a request, in your own words. It distinguishes "
            "baselines, as the number of replicas does."
        ),
        json_schema_extra={"examples": ["round robin", "least connections"]},
    )
    model: Text | None = Field(
        default=None, description="Name of the model in requests; null: the server's only one."
    )
    api: ServerApi = Field(
        default="chat",
        description="The API that is used: /v1/chat/completions or /v1/completions.",
    )
    api_key_env: Text | None = Field(
        default=None,
        description="Environment variable that holds the server's key, sent as a bearer token.",
    )
    headers: HeaderValues = Field(
        default_factory=dict, description="Further headers of requests; keys do not belong here."
    )
    header_env: HeaderVariables = Field(
        default_factory=dict,
        description=(
            "Further headers whose values are keys: for each the environment variable that holds "
            "it."
        ),
        json_schema_extra={"examples": [{"api-key": "AZURE_KEY"}]},
    )
    body: Annotated[dict[str, Any], Expected("a mapping of fields of the request's body")] = Field(
        default_factory=dict,
        description="Further fields of each request's body; null removes one of the plugin's.",
    )
    cache: PromptCache = Field(
        default="unique",
        description=(
            "unique: no prompt is served from the server's cache; shared: prompts are sent as "
            "they are, and the cache is part of what is measured."
        ),
    )
    idle_timeout: Duration | None = Field(
        default=None,
        description=(
            "Time limit for silence, before an answer's first chunk and between two; null: "
            "generation_timeout only."
        ),
    )
    proxy_from_environment: Flag = Field(
        default=False,
        description=(
            "Use the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name. It is then part of what "
            "is measured."
        ),
    )
    client_processes: ClientProcesses = Field(
        default=1,
        description=(
            "Number of processes that send a load, for one that a single client can't keep up with."
        ),
    )

    def conflicts(self) -> Iterator[Problem]:
        """Yield addresses, commands and headers that can't be used."""
        yield from super().conflicts()
        if (self.url is None) == (self.start is None):
            text = (
                "engine server needs llm.url, the address of a server that runs already, or "
                "llm.start, the command that starts one"
            )
            if self.url is not None:
                text = "llm.url names a server that runs already, llm.start starts one; keep one"
            yield "start" if self.start is not None else "engine", text, None
        if self.url is not None and (text := _url_problem(self.url)):
            yield "url", text, None
        if text := _replicas_problem(self.replicas, self.url):
            yield "replicas", text, None
        if self.routing is not None and self.url is None:
            text = (
                "says how llm.url chooses among servers, which is not set; set it, or remove this"
            )
            yield "routing", text, None
        if self.start is not None and (text := _start_problem(self.start)):
            yield "start", text, None
        if self.start is not None and self.proxy_from_environment:
            text = "is for llm.url; no proxy is between here and the server that llm.start starts"
            yield "proxy_from_environment", f"{text}; remove it", None
        if self.api_key_env is not None and _VARIABLE.fullmatch(self.api_key_env) is None:
            yield "api_key_env", _NO_VARIABLE, None
        for name, text in _headers_problems(self.headers):
            yield ("headers", name), text, None
        for name, text in self._header_env_problems():
            yield ("header_env", name), text, None
        if text := plain_json_problem(self.body):
            yield "body", text, None

    def _header_env_problems(self) -> Iterator[tuple[str, str]]:
        """Yield headers that can't take their value from an environment variable, and why."""
        given = {name.lower() for name in self.headers}
        for name, variable in self.header_env.items():
            if _HEADER.fullmatch(name) is None:
                yield name, "no HTTP header can have this name"
            elif _VARIABLE.fullmatch(variable) is None:
                yield name, _NO_VARIABLE
            elif name.lower() in given:
                yield name, "is given twice; keep one of llm.headers and llm.header_env"
            elif name.lower() == "authorization" and self.api_key_env is not None:
                yield name, "llm.api_key_env sends this header, too; keep one of them"
            given.add(name.lower())


def _url_problem(url: str) -> str:
    """Return what is wrong with a server's address, or ``""``."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        return (
            "is not the address of a server; it needs http:// or https://, a host, and a port "
            "where that is not the usual one, such as http://127.0.0.1:8080"
        )
    if "@" in parts.netloc:
        return f"contains a user or a password; take it out, and {_USE_VARIABLE}"
    if parts.query or parts.fragment:
        return f"has a part after ? or #; take it out, and if it holds a key, {_USE_VARIABLE}"
    return ""


def _replicas_problem(replicas: list[str] | None, url: str | None) -> str:
    """Return what is wrong with the addresses behind a balancer, or ``""``."""
    if replicas is None:
        return ""
    if url is None:
        return "are the servers behind llm.url, which is not set; set it, or remove them"
    if not replicas:
        return "is empty; name every server that llm.url balances over, or remove it"
    seen: set[str] = set()
    for number, address in enumerate(replicas, 1):
        if text := _url_problem(address):
            return f"address {number} {text}"
        if address.rstrip("/") == url.rstrip("/"):
            return f"address {number} is llm.url itself; name the servers that it balances over"
        if address.rstrip("/") in seen:
            return f"address {number} is named twice; name each server once"
        seen.add(address.rstrip("/"))
    return ""


def _start_problem(command: str) -> str:
    """Return what is wrong with the command that starts a server, or ``""``."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"can't be split into words ({str(error).lower()}); close the quotes"
    if not words:
        return "is empty; name the program that serves the model, and its arguments"
    if text := key_problem(words):
        return text
    if not any(_PORT in word for word in words):
        return (
            f"has no {_PORT}, so the server can't be told which port is free; write, for example, "
            f"--port {_PORT}"
        )
    return ""


def _headers_problems(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield headers that are not valid or should not be in a file, and why."""
    for name, value in headers.items():
        if _HEADER.fullmatch(name) is None:
            yield name, "no HTTP header can have this name"
        elif is_secret_name(name):
            yield (
                name,
                (
                    f"a header of this name holds a key; {_USE_VARIABLE}. For another header than "
                    f"Authorization: llm.header_env: {{{name}: VARIABLE}}"
                ),
            )
        elif not (value.isascii() and value.isprintable()):
            yield name, "no HTTP header can have this value; it may hold printable ASCII only"
