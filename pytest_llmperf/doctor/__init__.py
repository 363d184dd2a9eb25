"""`llmperf doctor`: measures a configuration, and what the remedies of its causes bring."""
