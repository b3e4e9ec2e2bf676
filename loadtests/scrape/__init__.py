"""Reads what the target says of itself, in a process of its own beside the master."""
