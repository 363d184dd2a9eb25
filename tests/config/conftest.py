"""A stand-in for a model hub: the part of its HTTP interface that file downloads use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLD_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@dataclass
class Hub:
    """The content and the address of the stand-in.

    Attributes:
        files: (repository, revision, path) -> content.
        errors: repository -> (HTTP status, the hub's error code).
        requests: method and path of every request for a file so far.
        endpoint: the stand-in's address.
        commit: the commit of the branch ``main``.
    """

    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    endpoint: str = ""
    commit: str = COMMIT


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

        def _fail(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _refusal(self, repo: str, revision: str, path: str) -> tuple[int, str] | None:
            if repo in hub.errors:
                return hub.errors[repo]
            if not any(known[0] == repo for known in hub.files):
                return 404, "RepoNotFound"
            if not any(known[:2] == (repo, revision) for known in hub.files):
                return 404, "RevisionNotFound"
            if (repo, revision, path) not in hub.files:
                return 404, "EntryNotFound"
            return None

        def _answer(self, *, body: bool) -> None:
            # /<owner>/<name>/resolve/<revision>/<path>
            parts = unquote(self.path.partition("?")[0])[1:].split("/")
            if len(parts) < 5 or parts[2] != "resolve":
                self._fail(404, "")  # requests for anything but files
                return
            hub.requests.append(f"{self.command} {self.path}")
            owner, name, _, revision, *rest = parts
            wanted = (f"{owner}/{name}", revision, "/".join(rest))
            if refusal := self._refusal(*wanted):
                self._fail(*refusal)
                return
            content = hub.files[wanted]
            self.send_response(200)
            commit = {"main": COMMIT, COMMIT: COMMIT}.get(revision, OLD_COMMIT)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

    return Handler


@pytest.fixture
def hub() -> Iterator[Hub]:
    """An empty stand-in on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
