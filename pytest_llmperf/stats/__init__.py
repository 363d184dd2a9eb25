"""Pure functions on samples: robust summaries and their intervals."""
