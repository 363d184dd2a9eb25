"""Runs llama.cpp's quantizer: ``quantizer.py SOURCE TARGET TYPE ALLOW_REQUANTIZE``, as a script.

It imports nothing of this package: a script's own folder is no place to import from.
"""

import ctypes
import os
import sys
import threading
import time


def _end_with_parent() -> None:
    """End soon after the parent is gone, even if it was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    if os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()


def _print(_level: int, text: bytes, _data: ctypes.c_void_p) -> None:
    os.write(2, text)


def main(source: str, target: str, number: str, allow_requantize: str) -> int:
    """Quantize a file; return 0 if that worked. llama.cpp's own lines go to the standard error."""
    own_folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != own_folder]  # noqa: PTH100
    _end_with_parent()
    import llama_cpp

    # Kept alive by its name while llama.cpp calls it.
    log = llama_cpp.llama_log_callback(_print)
    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = int(number)
    parameters.allow_requantize = bool(int(allow_requantize))
    result: int = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)
    )
    return min(result, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
