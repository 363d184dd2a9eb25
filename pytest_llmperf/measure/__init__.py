"""Measurement: a test's requests to the engine are recorded once, then replayed in rounds."""
