"""Explanations of how a process ended: its exit status or signal, and the usual cause."""

from __future__ import annotations

import signal

#: Exit status of a worker whose pipes to the plugin were closed while the plugin lived.
PIPE_LOST = 113
_NOT_ITS_OWN = (
    "the application closed or replaced file descriptors that it did not open (os.closerange, "
    "os.dup2, a library that turns the process into a daemon): the plugin gets its answers over "
    "one of them"
)


def describe_end(status: int | None) -> tuple[str, str | None]:
    """Return how a process ended, in words, and what that usually means.

    Args:
        status: as of ``Popen.returncode``; a negative number is a signal.
    """
    if status is None:
        return "closed its pipe", _NOT_ITS_OWN
    if status == PIPE_LOST:
        return "lost its connection to pytest", _NOT_ITS_OWN
    if status >= 0:
        return f"ended with exit status {status}", None
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = {
        "SIGKILL": (
            "usually sent by the kernel's out-of-memory killer (dmesg names the process): use a "
            "smaller model, quantization or llm.n_ctx, or llm.use_mmap: true"
        ),
        "SIGSEGV": (
            "a crash inside the engine's native code; a llama.cpp built for another processor "
            "does this (rebuild with CMAKE_ARGS=-DGGML_NATIVE=OFF), or a driver that does not "
            "match the build"
        ),
        "SIGILL": (
            "the engine was built for a newer processor than this one "
            "(rebuild with CMAKE_ARGS=-DGGML_NATIVE=OFF)"
        ),
        "SIGXCPU": "it reached a limit of CPU time: ulimit -t, or the application's own setrlimit",
        "SIGABRT": "an assertion inside the engine, often memory that could not be allocated",
        "SIGBUS": (
            "the model file was truncated or replaced while it was mapped, or its disk failed"
        ),
    }.get(name)
    return f"was ended by {name}", hint
