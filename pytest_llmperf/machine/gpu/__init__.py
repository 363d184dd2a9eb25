"""GPUs: devices, telemetry, metrics and fitness checks through NVML."""
