"""Why a scrape, or one measure of it, has no value: what every step raises."""

from __future__ import annotations

from loadtests.record.server import ScrapeFailure


class ScrapeError(Exception):
    """A scrape that brought nothing; the text may come from the target."""

    def __init__(self, kind: ScrapeFailure, text: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(f"{kind.value}: {text}")
