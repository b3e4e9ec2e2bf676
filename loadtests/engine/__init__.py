"""The data plane: one process a core, one uvloop loop, no Locust."""

from loadtests.compiled import modules_first

modules_first(__path__)
