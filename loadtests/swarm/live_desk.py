"""Who watches a run, beside its master: what the live page shows, and who judges meanwhile.

For a run that nobody watches every method does nothing, and costs nothing. A fault in here
ends the watching and never the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from loadtests.plan.model import Plan
from loadtests.record.event import Event
from loadtests.record.manifest import Manifest
from loadtests.record.server import ServerRow
from loadtests.record.window import Window
from loadtests.swarm.live import Judged, LiveDocument, LiveRun
from loadtests.swarm.live_judge import NOTHING, LiveJudge
from loadtests.swarm.metrics import RunSums
from loadtests.swarm.run_state import RunView

_LOG: Final = logging.getLogger(__name__)


class LiveDesk:
    """One run, from `open` to `end`; `module` judges as it goes, None: nobody watches."""

    def __init__(self, plan: Plan, plan_bytes: bytes, module: str | None) -> None:
        self._plan, self._plan_bytes, self._module = plan, plan_bytes, module
        self._live: LiveRun | None = None
        self._judge: LiveJudge | None = None
        self._last = Judged(verdict=NOTHING, note="the run has not begun")

    def open(self, draft: Manifest, sums: RunSums) -> None:
        """The run has an id."""
        if self._module is not None:
            self._live = LiveRun(self._plan, draft.run_id, sums)
            self._judge = LiveJudge(self._module, self._plan_bytes, draft)

    def received(self, source: str, window: Window) -> None:
        """A window of one agent."""
        self._show(lambda live: live.received(source, window))

    def released(self, window: Window) -> None:
        """A merged window, or a late part of one."""
        self._show(lambda live: live.released(window))
        self._feed(lambda judge: judge.see(window))

    def told(self, event: Event) -> None:
        """An event."""
        self._show(lambda live: live.told(event))

    def scraped(self, rows: Sequence[ServerRow]) -> None:
        """What the target said of itself."""
        self._feed(lambda judge: judge.scraped(rows))

    def account(self, draft: Manifest) -> None:
        """Who takes part, and what was lost."""
        self._feed(lambda judge: judge.update(draft))

    def _show(self, step: Callable[[LiveRun], None]) -> None:
        if self._live is None:
            return
        try:
            step(self._live)
        except Exception:  # noqa: BLE001 - whatever it is, the run goes on
            _LOG.exception("the live page shows nothing any more")
            self._live = None

    def _feed(self, step: Callable[[LiveJudge], None]) -> None:
        if self._judge is None:
            return
        try:
            step(self._judge)
        except Exception:  # noqa: BLE001 - see above
            _LOG.exception("there is no provisional verdict any more")
            self.end()

    def document(
        self, view: RunView, *, request: int | None, is_read_only: bool
    ) -> LiveDocument | None:
        """The page's data; None when nobody was to watch, or before `open`."""
        if self._live is None:
            return None
        return self._live.document(view, self.verdict(), request=request, is_read_only=is_read_only)

    def verdict(self) -> Judged:
        """The newest provisional verdict, and what there is to say of it."""
        return self._last if self._judge is None else self._judge.newest()

    def conclude(self, note: str) -> None:
        """Say what became of the run; what was provisional is no longer shown."""
        self._last = Judged(verdict=NOTHING, note=note)

    def end(self) -> None:
        """End the judge."""
        judge, self._judge = self._judge, None
        if judge is not None:
            judge.end()
            self.conclude("the run is over; its verdict comes from its archive")
