"""Imported before the tests of this room: keeps Locust from patching the test process."""

import loadtests.swarm  # noqa: F401 - importing it is the point
