"""The live display of a run: one panel on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from loadtests.clock import NS_PER_S
from loadtests.commands.terminal import Terminal

if TYPE_CHECKING:  # importing the swarm loads Locust
    from loadtests.swarm.progress import Figures, Progress

LINE_EVERY_S: Final = 5.0


def _ms(value_us: float | None) -> str:
    return "-" if value_us is None else f"{value_us / 1000:.1f} ms"


def _figures(figures: Figures) -> str:
    return (
        f"planned {figures.planned_per_s:,}/s  sent {figures.sent_per_s:,}/s  "
        f"done {figures.done_per_s:,}/s  errors {figures.errors_per_s:,}/s  "
        f"dropped {figures.dropped_per_s:,}/s  in flight {figures.in_flight:,}\n"
        f"response p50 {_ms(figures.p50_us)}  p95 {_ms(figures.p95_us)}  "
        f"p99 {_ms(figures.p99_us)}  send lag p99 {_ms(figures.send_lag_p99_us)}"
    )


def headline(progress: Progress) -> str:
    """Phase or stage, time, workers."""
    place = progress.stage or progress.phase.name.lower()
    elapsed_s = max(0, progress.elapsed_ns or 0) / NS_PER_S
    workers = f"{progress.agents_up}/{progress.agents_expected} workers"
    return (
        f"{place}  {elapsed_s:.0f}/{progress.total_ns / NS_PER_S:.0f} s  {workers}, "
        f"{progress.engines_up} engines  {progress.requests:,} requests, {progress.errors:,} errors"
    )


def log_line(progress: Progress) -> str:
    """What a log gets every few seconds, below 120 characters while numbers are usual."""
    place = progress.stage or progress.phase.name.lower()
    elapsed_s = max(0, progress.elapsed_ns or 0) / NS_PER_S
    time_text = f"{place}  {elapsed_s:.0f}/{progress.total_ns / NS_PER_S:.0f} s"
    figures = progress.figures
    if figures is None:
        return f"{time_text}  {progress.agents_up}/{progress.agents_expected} workers"
    return (
        f"{time_text}  sent {figures.sent_per_s:,} of {figures.planned_per_s:,}/s  "
        f"p95 {_ms(figures.p95_us)}  send lag p99 {_ms(figures.send_lag_p99_us)}  "
        f"{progress.errors:,} of {progress.requests:,} failed"
    )


def panel(progress: Progress) -> RenderableType:
    """The live display, three to nine lines."""
    done = min(max(0, progress.elapsed_ns or 0), progress.total_ns)
    lines: list[RenderableType] = [
        Text(headline(progress), style="bold"),
        ProgressBar(total=progress.total_ns, completed=done),
    ]
    if progress.figures is not None:
        lines.append(Text(_figures(progress.figures)))
    lines.extend(Text(f"* {event}", style="yellow") for event in progress.newest_events)
    if progress.stop_reason is not None:
        lines.append(Text(f"stopping: {progress.stop_reason}", style="bold yellow"))
    return Group(*lines)


def stopping(reason: str) -> str:
    """Said once, at once: an orderly end takes seconds."""
    return f"stopping: {reason}" + ("; Ctrl-C again stops at once" if "SIGINT" in reason else "")


class LiveProgress:
    """Shows progress while its block runs."""

    def __init__(self, terminal: Terminal, begun: Callable[[], None] = lambda: None) -> None:
        """Call `begun` with the first progress: from then on signals are the run's."""
        self._terminal = terminal
        self._begun = begun
        self._has_told_stop = False
        self._live: Live | None = None
        self._next_line_s = 0.0

    def __enter__(self) -> Self:
        if self._terminal.err.is_terminal:
            self._live = Live(
                console=self._terminal.err, auto_refresh=False, transient=True
            ).__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def show(self, progress: Progress) -> None:
        """Take the newest figures."""
        self._begun()
        is_early = max(0, progress.elapsed_ns or 0) < progress.total_ns
        if progress.stop_reason is not None and is_early and not self._has_told_stop:
            self._has_told_stop = True
            self._terminal.say(stopping(progress.stop_reason))
        if self._live is not None:
            self._live.update(panel(progress), refresh=True)
            return
        now_s = time.monotonic()
        if now_s >= self._next_line_s:
            self._next_line_s = now_s + LINE_EVERY_S
            self._terminal.say(log_line(progress))
