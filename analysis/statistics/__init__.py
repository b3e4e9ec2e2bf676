"""Statistics of measurements that depend on each other: intervals, tests, corrections.

Requests of one second share queues and stalls, so they are no independent sample: what is
resampled are blocks of consecutive windows. Every method names its source, says when there
is too little data (`TooSmall`), and is held against published values and simulations.

Reading order: `interval.py` (results), `cells.py` (rows of windows as resampling units),
`block_length.py` and `block_bootstrap.py` (dependence), `quantiles.py`, `totals.py` (what is
resampled), `ratios.py` (exact intervals of ratios), `log_ratio.py` (differences of two sides),
`silence.py` (a rate against none), `rank_test.py` (Mann-Whitney), `families.py` (Holm).
"""
