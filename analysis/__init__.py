"""Judges archives: percentiles, verdicts, baselines, tables. Reads archives only."""
