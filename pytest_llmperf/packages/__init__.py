"""Dependencies of a project tree, and environments that provide them."""
