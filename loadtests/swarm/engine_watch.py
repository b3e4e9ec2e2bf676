"""What an agent knows of one engine: its phase, its windows, when it was last heard.

Refuses what a sound engine cannot send: windows out of order, a second FINAL, anything
after one. Such an engine is broken, and a broken engine is killed and counted as lost:
guessing what it meant would put wrong figures into an archive.
"""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.engine.messages import FinalReport, Ready, WindowReport
from loadtests.record.window import Window, unpack_window
from loadtests.swarm.messages import EnginePhase, EngineState, Totals

_TEXT = 2000
_TEXTS = 64
_LARGEST = 2**62


class EngineFaultError(ValueError):
    """A frame that a sound engine does not send."""


def clip_text(text: str) -> str:
    """Cut a text of foreign origin to what a message may carry."""
    return text if len(text) <= _TEXT else text[: _TEXT - 3] + "..."


def clip_texts(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Cut warnings to what a message may carry; says how many were left out."""
    if len(texts) > _TEXTS:
        texts = (*texts[: _TEXTS - 1], f"{len(texts) - _TEXTS + 1} more")
    return tuple(clip_text(text) for text in texts)


@dataclass(slots=True, kw_only=True)
class EngineWatch:
    """Engine number `k` of the agent, `index` over the run."""

    k: int
    engine: str
    index: int
    heard_ns: int
    phase: EnginePhase = EnginePhase.STARTING
    sequence: int = 0
    through_s: int | None = None
    final: Totals | None = None
    in_flight_at_stop: int | None = None
    ended_offset_ns: int | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """True after FINAL or loss."""
        return self.phase >= EnginePhase.FINAL

    def ready(self, frame: Ready) -> None:
        """It holds its connections."""
        if self.phase is not EnginePhase.STARTING:
            raise EngineFaultError("ready twice")
        self.phase = EnginePhase.READY
        self.warnings = clip_texts(frame.warnings)

    def window(self, frame: WindowReport) -> Window:
        """Check and decode its next window."""
        if self.phase is not EnginePhase.RUNNING:
            raise EngineFaultError(f"a window while {self.phase.name.lower()}")
        if frame.sequence != self.sequence + 1:
            raise EngineFaultError(f"window {frame.sequence} after window {self.sequence}")
        try:
            window = unpack_window(frame.window)
        except ValueError as error:
            raise EngineFaultError(f"window {frame.sequence}: {error}") from error
        if not 0 <= window.start_s <= _LARGEST:
            raise EngineFaultError(f"window {frame.sequence} is labelled {window.start_s}")
        self.sequence = frame.sequence
        self.through_s = max(window.start_s, self.through_s or window.start_s)
        return window

    def finish(self, frame: FinalReport, offset_ns: int | None) -> None:
        """Take its own totals."""
        if self.has_ended:
            raise EngineFaultError("a second FINAL")
        counts = (
            frame.planned,
            frame.sent,
            frame.dropped,
            frame.ok,
            frame.client_error,
            frame.failed,
            frame.in_flight_at_stop,
        )
        if not all(0 <= count <= _LARGEST for count in counts):
            raise EngineFaultError(f"a FINAL with impossible counts {counts}")
        self.phase = EnginePhase.FINAL
        self.final = Totals(*counts[:6])
        self.in_flight_at_stop = counts[6]
        self.ended_offset_ns = offset_ns
        self.reason = clip_text(frame.reason)
        self.warnings = clip_texts((*self.warnings, *frame.warnings))

    def lose(self, reason: str, offset_ns: int | None) -> None:
        """It is dead, or as good as dead and being killed."""
        self.phase = EnginePhase.LOST
        self.reason = clip_text(reason)
        self.ended_offset_ns = offset_ns

    def state(self) -> EngineState:
        """As it goes to the master."""
        return EngineState(
            self.engine,
            self.index,
            self.phase,
            self.final,
            self.in_flight_at_stop,
            self.ended_offset_ns,
            self.reason,
            self.warnings,
        )
