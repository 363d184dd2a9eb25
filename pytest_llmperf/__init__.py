"""pytest_llmperf: tells the truth about LLM inference speed, as a pytest plugin."""

__version__ = "0.1.0"
