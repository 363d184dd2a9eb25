"""Measuring: what a test asked of the engine is recorded once, then replayed in rounds."""
