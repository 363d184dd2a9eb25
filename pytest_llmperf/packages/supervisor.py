"""Runs a command, and ends it with all its children once the requesting process is gone.

A standalone script (standard library only): ``python -I supervisor.py COMMAND...``.
Its standard input is a pipe that the requesting process holds open; a killed process
closes it. Without this, a killed session would leave compilers behind that
disturb the next one's measurements for minutes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """Run ``command`` without input; return its exit status, 127 if it cannot be started."""
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror or error}", flush=True)
        return 127
    threading.Thread(target=_end_with_parent, args=(child,), daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


def _end_with_parent(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    child.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
