"""The use case, free of pytest: recorded tests in, measured and judged, one result out."""
