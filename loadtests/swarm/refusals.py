"""Messages and connections that were not acted on: counted by reason, the first ones logged.

One count for the process, because it has one control socket. What is logged comes from
outside: it is cut short and escaped.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

_LOG: Final = logging.getLogger(__name__)
_LOGGED: Final = 5  # of each reason; the counters tell the rest


class Refusals:
    """Counts what was refused, by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, reason: str, detail: str) -> None:
        """Count one; `detail` comes from outside and is cut short and escaped."""
        self.counts[reason] += 1
        if self.counts[reason] <= _LOGGED:
            _LOG.warning("refused a message (%s): %.120r", reason, detail)


REFUSALS: Final = Refusals()
