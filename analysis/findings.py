"""What a check of a run found: warnings are values on results, printed with them.

A finding names the law that it belongs to, where it was seen and both numbers. Its effect
is closed: INVALID makes the stage, or the whole run, INCONCLUSIVE; WARNING is printed and
changes nothing. No finding can make anything pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Law(Enum):
    """The laws of measurement.md, and what is worth a warning beside them."""

    COMPLETENESS = "completeness"
    PLANNED = "planned = sent + dropped"
    SENT = "sent = ok + client_error + failed + in flight at stop"
    SUMS = "sums over workers = archive"
    SCHEDULE = "archive = plan"
    LOST_WINDOWS = "lost windows"
    DATA = "data"
    LITTLE = "Little's law"
    SENDS = "achieved sends"
    SEND_LAG = "send lag"
    ENGINE_CPU = "engine CPU"
    CLOCKS = "clock offset"
    HOST_LIMITS = "ports and descriptors"
    DROPPED = "dropped arrivals"
    UNANSWERED = "unanswered at stop"
    OVERFLOW = "histogram overflow"
    LIMITER = "rate limiter"
    ERRORS = "errors without a limit"
    STRAY_BYTES = "bytes that no request asked for"
    CLOSED_LOAD = "closed load"
    SCALE = "scaled run"
    WORKERS = "workers"
    FAILOVER = "failover measures"


GENERATOR_LAWS: Final = frozenset(
    {Law.SENDS, Law.SEND_LAG, Law.ENGINE_CPU, Law.LOST_WINDOWS, Law.CLOCKS, Law.HOST_LIMITS}
)


class Effect(Enum):
    """What a finding does to the verdict."""

    INVALID = "INCONCLUSIVE"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding; `stage` None means the whole run, `text` says seen and expected."""

    law: Law
    effect: Effect
    stage: str | None
    text: str

    @property
    def is_invalid(self) -> bool:
        """Whether it takes the right to a PASS away."""
        return self.effect is Effect.INVALID

    @property
    def is_generator_limit(self) -> bool:
        """Whether the generator, and not the target, was the limit."""
        return self.is_invalid and self.law in GENERATOR_LAWS

    def __str__(self) -> str:
        where = "run" if self.stage is None else f"stage {self.stage}"
        return f"{self.law.value} ({where}): {self.text}"


def invalid(law: Law, stage: str | None, text: str) -> Finding:
    """A finding that makes the stage, or the run, INCONCLUSIVE."""
    return Finding(law=law, effect=Effect.INVALID, stage=stage, text=text)


def warning(law: Law, stage: str | None, text: str) -> Finding:
    """A finding that is printed and changes nothing."""
    return Finding(law=law, effect=Effect.WARNING, stage=stage, text=text)
