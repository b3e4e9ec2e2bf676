"""The audit of writes: after a run, every logged id is read back over another node.

`read_back.py` asks, `answers.py` says what an answer means. The log is the engines'
(`record/writes.py`), the ids are the plan's (`plan/write_ids.py`), the judgement is
analysis/recovery's: here nothing is judged.
"""
