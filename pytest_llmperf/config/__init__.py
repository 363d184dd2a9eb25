"""The configuration of a session: its schema, its layers, and the model file it names."""
