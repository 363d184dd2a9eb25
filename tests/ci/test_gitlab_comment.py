"""The comment on a merge request: a note for each kind of runner, which later pipelines update."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ci_files import GITLAB, bash, environment, gitlab_script, read_yaml

from pytest_llmperf.report.json_report import write_json

sys.path.append(str(Path(__file__).parents[1] / "report"))
from report_sessions import session, short_answer

TOKEN = "glpat-secret"
NOTES = "/api/v4/projects/7/merge_requests/3/notes"


class GitLab(ThreadingHTTPServer):
    """The notes of one merge request, answered as GitLab's API documents it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.me = 5
        # Three pages of notes that others wrote, with our marker.
        self.notes: list[dict[str, Any]] = [
            {"id": number, "author": {"id": 9}, "body": "<!-- llmperf cpu --> mine"}
            for number in range(1, 251)
        ]

    @property
    def ours(self) -> list[str]:
        return [note["body"] for note in self.notes if note["author"]["id"] == self.me]


class Answers(BaseHTTPRequestHandler):
    server: GitLab

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/api/v4/user":
            return self._answer({"id": self.server.me})
        assert path == NOTES
        page = int(dict(part.split("=") for part in query.split("&"))["page"])
        return self._answer(self.server.notes[100 * (page - 1) : 100 * page])

    def do_POST(self) -> None:
        assert self.path == NOTES
        note = {"id": 1000 + len(self.server.notes), "author": {"id": self.server.me}}
        self.server.notes.append({**note, "body": self._body()})
        self._answer({})

    def do_PUT(self) -> None:
        (note,) = [n for n in self.server.notes if f"{NOTES}/{n['id']}" == self.path]
        note["body"] = self._body()
        self._answer({})

    def _body(self) -> str:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        return str(json.loads(data)["body"])

    def _answer(self, data: object) -> None:
        assert self.headers["PRIVATE-TOKEN"] == TOKEN
        text = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with GitLab() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_later_pipeline_updates_the_note_of_its_runner(
    repository: Path, init: Callable[..., int], gitlab: GitLab
) -> None:
    assert init("gitlab") == 0
    script = gitlab_script(read_yaml(repository / GITLAB), ".llmperf", "Report", "after_script")
    cache = repository / ".llmperf"
    (cache / "ci").mkdir(parents=True)
    (cache / "ci" / "venv-1").symlink_to(sys.prefix)

    def pipeline(runner: str, slower: float) -> None:
        write_json(repository / "report" / "session.json", session(short_answer(slower)))
        environ = environment(
            CI_PROJECT_DIR=repository,
            LLMPERF_CACHE_DIR=cache,
            LLMPERF_PROJECT=".",
            REPORT=repository / "report",
            LLMPERF_RUNNER=runner,
            LLMPERF_COMMENT_TOKEN=TOKEN,
            CI_MERGE_REQUEST_IID="3",
            CI_MERGE_REQUEST_PROJECT_ID="7",
            CI_API_V4_URL=f"http://127.0.0.1:{gitlab.server_port}/api/v4",
        )
        done = bash(script, repository, environ)
        assert done.returncode == 0, done.stdout
        assert TOKEN not in done.stdout

    (repository / "report").mkdir()
    pipeline("cpu", 1.3)
    pipeline("gpu", 1.3)
    regressed = "\n\n### llmperf: regressed"
    cpu, gpu = gitlab.ours
    assert cpu.startswith(f"<!-- llmperf cpu -->{regressed}")
    assert gpu.startswith(f"<!-- llmperf gpu -->{regressed}")
    pipeline("cpu", 1.0)
    cpu, gpu = gitlab.ours
    assert cpu.startswith("<!-- llmperf cpu -->\n\n### llmperf: pass")
    assert gpu.startswith(f"<!-- llmperf gpu -->{regressed}")
