"""A server that each commit starts from its own files is compared commit by commit."""

from __future__ import annotations

from pathlib import Path

from commit_projects import FILES, ONE_PAIR, SLOW, TOKEN_S, CommitProject

SUPPORT = Path(__file__).parent.parent / "support"
CONFIG = """
llm:
  engine: server
  start: "{python} serve.py {port}"
  cache: shared
perf:
  processes: 1
  iterations: 3
"""


def serve(factor: float) -> str:
    """A server that is so many times as slow."""
    return f"""
import asyncio, sys
sys.path.insert(0, {str(SUPPORT)!r})
from server_simulator import Plan, ServerSimulator

async def main():
    plan = Plan(first=0.005, gap={TOKEN_S * factor})
    async with ServerSimulator(plan, port=int(sys.argv[1])):
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_server_of_each_commit_is_measured(project: CommitProject) -> None:
    files = {**FILES, "config.yaml": CONFIG, "serve.py": serve(1.0)}
    project.commit("serve", files)
    project.git("tag", "fast")
    project.commit("slower", {"serve.py": serve(SLOW)})
    found = project.against("fast", *ONE_PAIR)
    assert found.ret == 0, found.said
    assert found.change() > 1
