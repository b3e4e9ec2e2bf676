"""The archive's front door: write a run, read a run.

`create_archive` makes `results/runs/<id>.partial/` and returns its `ArchiveWriter`;
`load_run` reads a complete or partial run; `list_runs` and `verify` do what they say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from loadtests.record.event import Event
from loadtests.record.histogram import Histogram
from loadtests.record.manifest import Manifest
from loadtests.record.window import Kind, SlotSpace, Window

TotalKey = tuple[str, str, str, Kind]  # stage, request, node, kind


def new_run_id(scenario_name: str, start_unix_ns: int) -> str:
    """`<UTC start>_<scenario>_<short id>`: unique, and safe as a directory name."""
    raise NotImplementedError


def create_archive(results: Path, draft: Manifest, plan: bytes) -> ArchiveWriter:
    """Make `results/runs/<draft.run_id>.partial/`; `plan` is `encode_plan`'s bytes.

    HarnessError when the folder cannot be written or the run id is taken.
    """
    raise NotImplementedError


class ArchiveWriter:
    """Writes one run. Every method raises HarnessError naming file and errno on disk errors."""

    @property
    def path(self) -> Path:
        """The `.partial` directory, the final one after `finish`."""
        raise NotImplementedError

    def update(self, draft: Manifest) -> None:
        """Replace the draft (agents, T0 after the barrier); T0 must be set before windows."""
        raise NotImplementedError

    def journal(self, batch: bytes) -> None:
        """Append opaque bytes: kept while the run is partial, not understood by `load_run`."""
        raise NotImplementedError

    def journal_windows(self, source: str, windows: Sequence[Window]) -> None:
        """Append acknowledged windows of one agent: a partial run is rebuilt from these."""
        raise NotImplementedError

    def append_window(self, window: Window) -> None:
        """Archive a merged window of the whole run; a label may repeat, its parts add up."""
        raise NotImplementedError

    def append_event(self, event: Event) -> None:
        """Archive an event; on disk when this returns."""
        raise NotImplementedError

    def finish(self, manifest: Manifest) -> Path:
        """Close, checksum and rename; returns the directory of the complete archive.

        `events` and `checksums` of the manifest are filled in here.
        """
        raise NotImplementedError

    def abandon(self, reason: str) -> Path:
        """Stop writing after a failure; the partial stays readable. Never raises on disk errors."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run read back.

    `windows`: window_s, part, stage, request, node, judged, the Count columns in lower
    case (planned ... connect_failures), in_flight, response_n, response_p50_us,
    response_p95_us, response_p99_us, response_max_us, service_p99_us, send_lag_n,
    send_lag_p50_us, send_lag_p99_us, overflow; one row per window and slot that had
    anything (late parts of a window are rows of their own: `part` > 0; counts add up).
    `errors`: window_s, stage, request, node, judged, kind, count.
    `engines`: window_s and EngineHealth's fields. `hiccups`: window_s and Hiccup's fields.
    """

    path: Path
    manifest: Manifest
    is_complete: bool
    findings: tuple[str, ...]  # what was cut or missing while reading a partial run
    windows: pd.DataFrame
    errors: pd.DataFrame
    engines: pd.DataFrame
    hiccups: pd.DataFrame
    events: tuple[Event, ...]
    messages: Mapping[tuple[str, str, str, str], str]  # stage, request, node, error kind -> sample
    plan_bytes: bytes

    @property
    def slots(self) -> SlotSpace:
        """The numbering of this run's windows."""
        return self.manifest.slots

    def totals(self, *, judged: bool) -> Mapping[TotalKey, Histogram]:
        """Exact histogram sums: of each stage's judged windows, or of every window."""
        raise NotImplementedError


def load_run(path: Path) -> Run:
    """Read `results/runs/<id>` or `<id>.partial`; HarnessError on damage."""
    raise NotImplementedError
