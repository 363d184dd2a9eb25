"""A server that each commit starts from its own files is compared commit by commit."""

from __future__ import annotations

from commit_projects import FILES, ONE_PAIR, SLOW, TOKEN_S, CommitProject
from running_servers import serve_script

CONFIG = """
llm:
  engine: server
  start: "{python} serve.py {port}"
  cache: shared
perf:
  processes: 1
  iterations: 3
"""


def test_the_server_of_each_commit_is_measured(project: CommitProject) -> None:
    files = {**FILES, "config.yaml": CONFIG, "serve.py": serve_script(TOKEN_S)}
    project.commit("serve", files)
    project.git("tag", "fast")
    project.commit("slower", {"serve.py": serve_script(TOKEN_S * SLOW)})
    session = project.against("fast", *ONE_PAIR)
    assert session.ret == 0, session.all_output
    assert session.change() > 1
