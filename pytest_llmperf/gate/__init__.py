"""The gate, which turns evidence into verdicts: one protocol, one strategy per file."""
