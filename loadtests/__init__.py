"""Headroom's load generator: rooms in data-flow order are plan, engine, swarm, record."""
