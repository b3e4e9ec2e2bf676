"""The audit of writes: what clients were told, against what another node has.

    lost         acknowledged, and absent
    resurrected  refused, and present
    duplicated   present more than once
    unknown      its client never learned: it may be either

One lost write is proof, whatever else is not known. That there is none can only be said
when every write is in the log and was read back; else INCONCLUSIVE.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from analysis.judging import Outcome, State, inconclusive
from analysis.reading import Reading, unit_of
from analysis.unmeasured import CRASHES, Unmeasured, crashed
from loadtests.plan.model import MeasureKind, Objective, Plan
from loadtests.plan.objectives import is_met
from loadtests.plan.write_ids import MatchedWrites, match_writes
from loadtests.record.archive import Run
from loadtests.record.read_back import UNREAD
from loadtests.record.writes import UNLOGGED

_EXAMPLES: Final = 10
_OUTCOMES: Final = {"ok": "ok", "fail": "client_error", "info": "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """So many writes, and the ids of some of them, the first in order."""

    number: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAudit:
    """Of all writes of a run; `gaps` are why it is not complete."""

    acknowledged: int
    refused: int
    unknown: int  # timed out, broken off, or answered by somebody who may not know
    unknown_present: int
    unread: int
    lost: Found
    resurrected: Found
    duplicated: Found
    gaps: tuple[str, ...]

    def of(self, kind: MeasureKind) -> Found:
        """What an objective is about."""
        return {
            MeasureKind.LOST_WRITES: self.lost,
            MeasureKind.RESURRECTED_WRITES: self.resurrected,
        }.get(kind, self.duplicated)


def audit_writes(run: Run, plan: Plan) -> WriteAudit | Unmeasured:
    """The audit of a run, or why there is none."""
    if plan.audit is None:
        return Unmeasured(reason="the scenario has no [audit]", is_crash=False)
    try:
        return _audit(run, plan)
    except CRASHES as error:
        return crashed(error)


def _audit(run: Run, plan: Plan) -> WriteAudit:
    rows = run.writes[run.writes["due_ns"] >= 0].reset_index(drop=True)
    matched = match_writes(plan, rows["due_ns"].to_numpy(np.int64), rows["slot"].to_numpy(np.int64))
    logged = pd.DataFrame(
        {
            "sequence": matched.sequences,
            "outcome": rows["outcome"].astype(str).to_numpy()[matched.entries],
        }
    )
    if run.read_back is None:
        both = logged.assign(copies=UNREAD, id="")
    else:
        both = logged.merge(run.read_back, on="sequence", how="left")
        both["copies"] = both["copies"].fillna(UNREAD).astype(np.int64)
    both = both.sort_values("sequence", ignore_index=True)
    copies, outcome = both["copies"], both["outcome"]
    return WriteAudit(
        acknowledged=int((outcome == "ok").sum()),
        refused=int((outcome == "fail").sum()),
        unknown=int((outcome == "info").sum()),
        unknown_present=int(((outcome == "info") & (copies > 0)).sum()),
        unread=int((copies == UNREAD).sum()),
        lost=_found(both[(outcome == "ok") & (copies == 0)]),
        resurrected=_found(both[(outcome == "fail") & (copies > 0)]),
        duplicated=_found(both[copies > 1]),
        gaps=tuple(_gaps(run, plan, rows, matched, int((copies == UNREAD).sum()))),
    )


def _found(rows: pd.DataFrame) -> Found:
    return Found(number=len(rows), examples=tuple(rows["id"].astype(str).head(_EXAMPLES)))


def _gaps(
    run: Run, plan: Plan, rows: pd.DataFrame, matched: MatchedWrites, unread: int
) -> Iterator[str]:
    """What keeps the audit from being complete."""
    assert plan.audit is not None, "only audits come here"
    if run.read_back is None:
        yield "the writes were not read back"
    elif unread:
        yield f"{unread} writes could not be read back"
    unlogged = int(run.writes.loc[run.writes["outcome"] == UNLOGGED, "count"].sum())
    if unlogged:
        yield f"{unlogged} writes are not in the log, which was full"
    if matched.unmatched:
        yield f"{matched.unmatched} entries of the log belong to no one arrival"
    if run.manifest.lost_windows:
        lost = sum(entry.planned for entry in run.manifest.lost_windows)
        yield f"{lost} arrivals of lost windows are in no log"
    own = run.windows[run.windows["request"] == plan.audit.request]
    ended = int(own[["ok", "client_error", "failed"]].to_numpy().sum())
    if len(rows) + unlogged != ended:
        yield f"the log has {len(rows)} writes, {ended} ended"
    acknowledged = int(own["ok"].sum())
    logged_ok = int((rows["outcome"].astype(str) == "ok").sum())
    if not unlogged and logged_ok != acknowledged:
        yield f"the log has {logged_ok} acknowledged writes, windows have {acknowledged}"
    if not len(rows):
        yield "no write ended"
    elif not logged_ok:
        yield "no write was acknowledged"


def judge_writes(objective: Objective, audit: WriteAudit | Unmeasured) -> tuple[Reading, Outcome]:
    """A limit on lost, resurrected or duplicated writes."""
    unit = unit_of(objective.measure)
    if isinstance(audit, Unmeasured):
        nothing = Reading(unit=unit, value=None, samples=0, required=0, resolution=None)
        return nothing, inconclusive(audit.reason)
    found = audit.of(objective.measure.kind)
    total = audit.acknowledged + audit.refused + audit.unknown
    reading = Reading(
        unit=unit, value=float(found.number), samples=total - audit.unread, required=0,
        resolution=1.0,
    )  # fmt: skip
    if not is_met(objective, found.number):
        return reading, (State.FAIL, f"limit missed: {', '.join(found.examples)}")
    if audit.gaps:
        return reading, inconclusive("; ".join(audit.gaps))
    return reading, (State.PASS, "met")
