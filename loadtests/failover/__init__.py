"""Faults: applied, seen to be in force, undone, seen to be gone, on the run's own clock.

In reading order: `strike.py` (one fault on one node), `actions.py` and the modules of
actions, `ledger.py` (what may be in force), `striking.py` (a strike's way through ledger and
action), `timeline.py` (when, as a pure state machine), `prediction.py`, `injector.py` and
`process.py` (the process that does it). A run's master starts that process and feeds it T0
and what it sees of the target; whatever ends the master ends the faults.
"""
