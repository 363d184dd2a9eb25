"""GPUs: found and sampled through NVML, what they did while an engine computed, what was unfit."""
