"""What a failover cost, measured from an archive's bins of 100 ms.

In reading order: `series` (bins as arrays), `faults` (when what was done), `outage` (when
arrivals failed), `holding` (when every objective held again), `connections` (who came back),
`doubts` (what speaks against it), `rollback` (what a rollout came to), `measures` (all of it for a
fault), `judging`, `expected` (what was said before), `tables`, `sentence`.
"""
