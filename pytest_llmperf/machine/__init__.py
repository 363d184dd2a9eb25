"""The machine a measurement ran on: what it is, which GPUs it has, and what else it was doing."""
