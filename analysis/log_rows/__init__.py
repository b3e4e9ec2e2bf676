"""From the lines of a long latency log to rows of sparse histograms.

Needs NumPy and the record alone, so that a process which only reads begins in a quarter of a
second. Reading order: `sparse.py` (rows, and how they are added up), `parts.py` (what the log
holds), `gathering.py` (parts to rows), `stretches.py` (several processes, a stretch each);
`memory.py` is for all that hold much of it.
"""
