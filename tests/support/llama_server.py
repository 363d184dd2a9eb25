"""Serve a model with llama.cpp's own server until the process is ended.

python tests/support/llama_server.py --port 8080 --model file.gguf --ctx 256
"""

from __future__ import annotations

import argparse
import signal

import xllamacpp


def main() -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias")
    parser.add_argument("--ctx", "--ctx-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=1, help="slots that share the context")
    parser.add_argument("--metrics", action="store_true", help="publish /metrics")
    arguments = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.hostnames, params.port = ["127.0.0.1"], arguments.port
    params.n_ctx, params.n_parallel = arguments.ctx, arguments.parallel
    params.n_batch = params.n_ubatch = 128
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.warmup = False
    params.endpoint_metrics = arguments.metrics
    if arguments.alias:
        params.model_alias = {arguments.alias}
    server = xllamacpp.Server(params)
    print(f"serving {server.listening_address}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
