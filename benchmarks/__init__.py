"""Headroom measured side by side with its peers; `python -m benchmarks` runs everything.

Reading order: `__main__` (what runs when), `cost` (CPU per request against wrk, hey and
Locust), `send_lag`, `memory`, `fan_in` (`curve` with it), `show`, `page` (one claim of the
project each), `claims` (the limits), `report` (writes RESULTS.md from results.json). Load goes
to loopback only and every process that is started here dies with the benchmark.
"""
