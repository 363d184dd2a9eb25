"""Builds of llama-cpp-python with GPU code: compile command and environment variables."""

from __future__ import annotations

#: Variables that choose an engine's visible GPUs, by backend.
VISIBLE_DEVICES: dict[str, tuple[str, ...]] = {
    "cuda": ("CUDA_VISIBLE_DEVICES",),
    "hip": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    "vulkan": ("GGML_VK_VISIBLE_DEVICES",),
    "sycl": ("ONEAPI_DEVICE_SELECTOR",),
}


def rebuild_command(flags: str, version: str = "") -> str:
    """Return the command that compiles the installed version, or the newest one, with ``flags``.

    Without --no-cache-dir pip would reuse the wheel of the present build: its cache ignores
    CMAKE_ARGS.
    """
    package = f"llama-cpp-python=={version}" if version else "llama-cpp-python"
    return (
        f'CMAKE_ARGS="{flags}" pip install --force-reinstall --no-cache-dir --no-deps '
        f"--no-binary llama-cpp-python {package}"
    )
