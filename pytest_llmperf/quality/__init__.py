"""Quality of a configuration's answers, compared with a reference."""
