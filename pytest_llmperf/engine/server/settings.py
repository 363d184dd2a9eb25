"""Settings of the client: the server's address, how to ask it, and its time limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pytest_llmperf.engine.errors import EngineError

Api = Literal["completions", "chat"]

_PATHS: dict[Api, str] = {"completions": "completions", "chat": "chat/completions"}
HIDDEN = "***"
#: Share of the time limit after which an answer is given up, before the engine process itself is.
_ANSWER_SHARE = 0.95


class ServerSettingsError(EngineError):
    """Settings of a server that can't be used; str() is the complete message."""


@dataclass(frozen=True)
class ServerSettings:
    """Address of an OpenAI-compatible server, and how to ask it.

    The ``llm`` section has validated the values. The key is read from the environment when a client
    starts. It is not part of the settings, so that no repr, message or stored file can contain it.

    Attributes:
        url: the server's root, its ``/v1``, or the complete endpoint.
        model: name sent with each request; None sends none.
        api: ``chat`` sends messages, ``completions`` a prompt.
        headers: headers sent with each request. Their values are never shown.
        body: fields added to each request's body; a value of None removes a field.
        key_variable: environment variable with the server's key, sent as a bearer token.
        header_variables: further headers, each with the environment variable that holds its value.
        connect_s: seconds within which a connection must be established.
        idle_s: seconds that the server may be silent, before and after its first token.
        total_s: seconds that a request may take.
        proxy_from_environment: whether HTTP_PROXY, HTTPS_PROXY and NO_PROXY are obeyed. Off by
            default, because a proxy between client and server would be measured, too.
    """

    url: str
    model: str | None = None
    api: Api = "chat"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] = field(default_factory=dict)
    key_variable: str | None = None
    header_variables: Mapping[str, str] = field(default_factory=dict)
    connect_s: float = 10.0
    idle_s: float = 60.0
    total_s: float = 600.0
    proxy_from_environment: bool = False

    @classmethod
    def of_section(cls, config: Mapping[str, Any], url: str) -> ServerSettings:
        """Build the settings from a resolved ``llm`` section, for the server at ``url``."""
        limit, idle = _ANSWER_SHARE * float(config["generation_timeout"]), config["idle_timeout"]
        defaults = {"temperature": 0.0, "seed": config["seed"], "ignore_eos": True}
        return cls(
            url=url,
            model=config["model"],
            api=config["api"],
            headers=config["headers"],
            body={**defaults, **config["body"]},
            key_variable=config["api_key_env"],
            header_variables=config["header_env"],
            idle_s=limit if idle is None else float(idle),
            total_s=limit,
            proxy_from_environment=config["proxy_from_environment"],
        )

    def __repr__(self) -> str:
        headers = dict.fromkeys(self.headers, HIDDEN)
        return (
            f"{type(self).__name__}(url={shown_url(self.url)!r}, model={self.model!r}, "
            f"api={self.api!r}, headers={headers!r}, key_variable={self.key_variable!r})"
        )

    @cached_property
    def endpoint(self) -> str:
        """URL that requests are posted to."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/")
        if not path.endswith("/completions"):
            path = f"{path or '/v1'}/{_PATHS[self.api]}"
        return urlunsplit(parts._replace(path=path, fragment=""))

    @cached_property
    def proxy(self) -> str | None:
        """Proxy between client and server; None for a direct connection.

        aiohttp's own way (``trust_env``) would also take passwords from ~/.netrc, and use threads
        before each request.

        Raises:
            ServerSettingsError: the environment names a proxy that can't be used.
        """
        from urllib.request import getproxies, proxy_bypass

        parts = urlsplit(self.url)
        if not self.proxy_from_environment or proxy_bypass(parts.hostname or ""):
            return None
        proxy = getproxies().get(parts.scheme)
        if proxy is not None and not _is_http_url(proxy):
            raise ServerSettingsError(
                f"the proxy that the environment names for {parts.scheme} can't be used: it needs "
                f"http:// and a host, as in http://proxy:3128; set {parts.scheme}_proxy, or turn "
                "off llm.proxy_from_environment"
            )
        return proxy

    @property
    def shown_endpoint(self) -> str:
        """Endpoint for messages, without password and query."""
        return shown_url(self.endpoint)

    def secret_headers(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the headers whose values are keys, read from the environment.

        Raises:
            ServerSettingsError: an environment variable is not set, or can't be a key.
        """
        headers = {n: self._key(variable, environ) for n, variable in self.header_variables.items()}
        if self.key_variable is not None:
            headers["Authorization"] = f"Bearer {self._key(self.key_variable, environ)}"
        return headers

    def _key(self, variable: str, environ: Mapping[str, str]) -> str:
        key = environ.get(variable, "").strip()
        if not key:
            raise ServerSettingsError(
                f"no key for {shown_url(self.url)}: the environment variable {variable} is not "
                "set; set it to the server's key"
            )
        if not (key.isascii() and key.isprintable()):
            raise ServerSettingsError(
                f"the key in the environment variable {variable} has characters that no HTTP "
                "header can carry; set it to the server's key alone, without line ends"
            )
        return key


def _is_http_url(url: str) -> bool:
    """Whether a URL begins with http:// and has a host and no invalid port."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme == "http" and bool(parts.hostname)


def shown_url(url: str) -> str:
    """Return a URL without user, password, query and fragment, for messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))
