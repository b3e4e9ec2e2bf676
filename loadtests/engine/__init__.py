"""The data plane: one process a core, one uvloop loop, no Locust."""
