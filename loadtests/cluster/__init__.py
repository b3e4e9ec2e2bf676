"""A small real cluster to run against on one machine; a stand-in, not Aurigraph."""
