"""Two sides of runs, compared: what changed, how surely, and what could not have been seen.

Reading order: `subject.py` (a run, or the file of a baseline), `likeness.py` (may the two be
compared at all), `measures.py` (what is compared), `estimates.py` (one measure of one run),
`effects.py` (one measure of two sides), `comparison.py` (all of them, Holm, the decision),
`page.py` (for people, machines and Markdown).
"""
