"""Builds of llama-cpp-python with GPU code: what makes pip compile one, and what hides its GPUs."""

from __future__ import annotations

#: Variables that choose the GPUs an engine is shown, by the backend that heeds them.
VISIBLE_DEVICES: dict[str, tuple[str, ...]] = {
    "cuda": ("CUDA_VISIBLE_DEVICES",),
    "hip": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    "vulkan": ("GGML_VK_VISIBLE_DEVICES",),
    "sycl": ("ONEAPI_DEVICE_SELECTOR",),
}


def rebuild_command(flags: str, version: str = "") -> str:
    """Return the command that compiles the installed version, or the newest one, with ``flags``.

    Without --no-cache-dir the wheel of the present build would come back: pip keeps
    wheels without regard to CMAKE_ARGS.
    """
    package = f"llama-cpp-python=={version}" if version else "llama-cpp-python"
    return (
        f'CMAKE_ARGS="{flags}" pip install --force-reinstall --no-cache-dir --no-deps '
        f"--no-binary llama-cpp-python {package}"
    )
