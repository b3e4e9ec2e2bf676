"""A night of stress runs: which steps are due, what may run, what is tried again, what is kept.

Pure: clock, host and runner are handed in. `headroom nightly` runs the steps as child
processes, `headroom prune` removes what `retention.py` says. In reading order: `spec`,
`plan`, `schedule`, `windows`, `budget`, `canary`, `lock`, `night`, `records`, `retention`.
"""
