"""From evidence to a verdict: one protocol, one strategy per file."""
