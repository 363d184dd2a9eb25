"""`llmperf doctor`: measures a configuration, and the gain of the remedies for its causes."""
