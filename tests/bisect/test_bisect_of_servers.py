"""``llmperf bisect`` over commits that change the server that the project starts."""

from __future__ import annotations

from bisect_command import Command
from running_servers import serve_script

CONFIG = """
llm:
  engine: server
  start: "{python} serve.py {port}"
  cache: shared
perf:
  processes: 1
  iterations: 3
  turns: processes
"""


def test_the_commit_that_made_the_projects_server_slower_is_named(command: Command) -> None:
    fast, slow = serve_script(0.003), serve_script(0.012)
    command.commit("served", config__yaml=CONFIG, serve__py=fast)
    culprit = command.commit("Slower tokens", serve__py=slow)
    result = command.run("HEAD~1", "HEAD", "tests/perf")
    assert (result.status, result.err) == (0, "")
    assert result.data["kind"] == "found"
    assert result.data["first"]["hash"] == culprit
    (effect,) = result.data["effects"]
    assert 0.5 < effect["low"] <= effect["effect"]
