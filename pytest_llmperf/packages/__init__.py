"""What a tree of the project needs installed, and an environment that has it."""
