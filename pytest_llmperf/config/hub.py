"""Downloads all files of a model from a Hugging Face hub, through huggingface_hub's cache."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.gguf import SplitModelError, model_files

PREFIX = "hf://"
_FORM = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@\s]+))?/(?P<file>[^@\s]+\.gguf)"
)
_FORM_WORDS = "expected hf://owner/repo/file.gguf or hf://owner/repo@revision/file.gguf"


@dataclass(frozen=True)
class HubFile:
    """One file of one repository; ``revision`` is a branch, tag or commit, None the default."""

    repo: str
    file: str
    revision: str | None


def parse(model_path: str) -> HubFile:
    """Return the file that ``hf://owner/repo[@revision]/path/file.gguf`` names.

    Raises:
        ModelError: the text has another form.
    """
    match = _FORM.fullmatch(model_path)
    if match is None or ".." in match["file"].split("/"):
        raise ModelError(model_path, _FORM_WORDS)
    return HubFile(match["repo"], match["file"], match["revision"])


def download(model_path: str) -> Path:
    """Return the local file, from huggingface_hub's cache or downloaded into it.

    For a model in several files it is the first; the others are downloaded beside it.

    huggingface_hub's environment variables apply: ``HF_HOME``,
    ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``.

    Raises:
        ModelError: huggingface_hub is missing or fails; the message says why.
    """
    wanted = parse(model_path)
    try:
        import huggingface_hub
    except ImportError:
        text = "hf:// needs huggingface_hub; run: pip install 'pytest-llmperf[hub]'"
        raise ModelError(model_path, text) from None

    def bring(file: HubFile) -> Path:
        try:
            return Path(
                huggingface_hub.hf_hub_download(file.repo, file.file, revision=file.revision)
            )
        except Exception as error:  # its HTTP library differs between versions, so do its errors
            raise ModelError(model_path, _explain(error, file)) from None

    first = bring(wanted)
    try:
        others = model_files(first)[1:]
    except SplitModelError as error:
        raise ModelError(model_path, str(error)) from None
    for other in others:
        name = PurePosixPath(wanted.file).with_name(other.name)
        bring(replace(wanted, file=str(name), revision=_commit(first, wanted)))
    return first


def _commit(file: Path, wanted: HubFile) -> str | None:
    """Return the commit that a file came from, so that the other files come from the same commit.

    A branch may move between two downloads, and each commit has its own folder.
    """
    snapshot = file.parents[len(PurePosixPath(wanted.file).parts) - 1]
    return snapshot.name if snapshot.parent.name == "snapshots" else wanted.revision


def _explain(error: Exception, wanted: HubFile) -> str:
    """Return the error's cause and its fix."""
    from huggingface_hub import constants, utils

    endpoint = str(constants.ENDPOINT)
    refused = _refused(error, endpoint)
    # The order matters: gated is a kind of not found, and not cached a kind of no entry.
    if isinstance(error, utils.GatedRepoError):
        return (
            f"{wanted.repo} is gated: accept its terms at {endpoint}/{wanted.repo}, "
            "then set HF_TOKEN or run 'hf auth login'"
        )
    if isinstance(error, utils.RepositoryNotFoundError):
        return (
            f"{endpoint} has no repository {wanted.repo}, or it is private; "
            "check the name, or set HF_TOKEN"
        )
    if isinstance(error, utils.RevisionNotFoundError):
        return f"{wanted.repo} has no revision {wanted.revision!r}"
    if isinstance(error, utils.LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            return "not in the local cache, and HF_HUB_OFFLINE is set; unset it once to download"
        if refused:
            return refused
        return (
            f"not in the local cache, and {endpoint} cannot be reached "
            f"({_cause(error)}); check the network, HF_ENDPOINT and proxy settings"
        )
    if isinstance(error, utils.EntryNotFoundError):
        return f"{wanted.repo} has no file {wanted.file!r}; see {endpoint}/{wanted.repo}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full: {constants.HF_HUB_CACHE} (HF_HOME names another place)"
    return refused or f"cannot be downloaded: {_cause(error)}"


def _refused(error: BaseException, endpoint: str) -> str:
    """Return a message if the error, or its cause, means that access was refused."""
    for cause in (error, error.__cause__):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in (401, 403):
            return f"{endpoint} refuses access ({status}); check HF_TOKEN"
    return ""


def _cause(error: BaseException) -> str:
    """Return the first line of the underlying error."""
    inner = error.__cause__ or error
    lines = str(inner).strip().splitlines()
    return lines[0] if lines else type(inner).__name__
