"""Checks a model file before an engine loads it, so that a wrong file is an error, not a crash."""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.config.errors import ModelError

MAGIC = b"GGUF"
_LFS_POINTER = b"version https://git-lfs"
_SHOWN_NAMES = 5


def check_gguf(path: Path, model_path: str) -> Path:
    """Return ``path`` if it is a readable file that starts as a GGUF file does.

    Args:
        path: the file.
        model_path: what the user wrote, for the message.

    Raises:
        ModelError: a directory, unreadable, empty, or another format.
    """
    if path.is_dir():
        names = gguf_names(path)
        what = f"name one of its models: {', '.join(names)}" if names else "it holds no .gguf file"
        raise ModelError(model_path, f"{path} is a directory; {what}")
    if not path.is_file():
        raise ModelError(model_path, f"{path} is not a regular file")
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_LFS_POINTER))
    except OSError as error:
        raise ModelError(model_path, f"{path} cannot be read: {error.strerror}") from None
    if not head:
        raise ModelError(model_path, f"{path} is empty; was its download cut short?")
    if head.startswith(_LFS_POINTER):
        text = f"{path} is a Git LFS pointer, not the model; run 'git lfs pull'"
        raise ModelError(model_path, text)
    if not head.startswith(MAGIC):
        got = ascii(head[: len(MAGIC)].decode("latin-1"))
        text = f"{path} is not a GGUF file (it starts with {got}, expected 'GGUF')"
        raise ModelError(model_path, text)
    return path


def gguf_names(folder: Path) -> list[str]:
    """Return the names of some GGUF files in ``folder``, sorted; none if it cannot be read."""
    try:
        names = sorted(child.name for child in folder.iterdir() if child.suffix == ".gguf")
    except OSError:
        return []
    return names[:_SHOWN_NAMES]
