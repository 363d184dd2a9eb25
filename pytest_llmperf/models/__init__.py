"""Model files to experiment with: quantized real ones, and synthetic ones of a known shape."""
