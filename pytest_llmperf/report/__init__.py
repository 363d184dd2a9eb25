"""From verdicts to what people and machines read: one renderer per file."""
