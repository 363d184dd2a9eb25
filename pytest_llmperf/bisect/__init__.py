"""Searches for the first commit that made tests slower, and stores its sessions."""
