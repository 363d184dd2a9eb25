"""Model files to try things on: real ones quantized, and synthetic ones of a known shape."""
