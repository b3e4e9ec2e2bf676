"""What a night leaves: one JSON file, written anew after every step, and the dead-man file.

`results/nights/<night>.json` has the steps with their runs, the host's reading and the costs;
a night that was killed stays `running` in it. `results/nights/last-result.json` is written
last of all: whoever watches it learns that nights have stopped, whatever the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from loadtests.clock import NS_PER_S
from loadtests.errors import ExitCode, HarnessError
from loadtests.nightly.canary import HostReading
from loadtests.plan.units import format_duration
from loadtests.record.files import replace_file, writing

_NS_PER_H: Final = 3600 * NS_PER_S
FOLDER: Final = "nights"
LAST_RESULT: Final = "last-result.json"
_PATTERN: Final = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].json"


class NightState(Enum):
    """How a step or a night ended."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    VOID = "VOID"  # the host moved: nothing was sent
    USAGE = "refused"  # a scenario, target or argument that may not run
    ABORTED = "aborted"
    HARNESS = "harness error"
    NOT_RUN = "not run"
    RUNNING = "running"  # or killed, when no process holds the lock


EXIT_CODES: Final = {
    NightState.PASS: ExitCode.PASS,
    NightState.FAIL: ExitCode.FAIL,
    NightState.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
    NightState.VOID: ExitCode.INCONCLUSIVE,
    NightState.NOT_RUN: ExitCode.INCONCLUSIVE,
    NightState.USAGE: ExitCode.USAGE,
    NightState.ABORTED: ExitCode.ABORTED,
    NightState.HARNESS: ExitCode.HARNESS,
    NightState.RUNNING: ExitCode.HARNESS,
}


_RESULTS: Final = {NightState.PASS, NightState.FAIL, NightState.INCONCLUSIVE}


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: immutable, unknown keys refused."""


class Attempt(_Record, frozen=True, kw_only=True):
    """One child process: `run_id` None where it left no archive."""

    state: NightState
    run_id: str | None
    is_of_host: bool  # INCONCLUSIVE, and every reason is the host's or the generator's
    words: str
    took_ns: int


class StepRecord(_Record, frozen=True, kw_only=True):
    """One step; `why` says in words what its state rests on."""

    name: str
    does: str
    state: NightState
    why: str
    attempts: tuple[Attempt, ...]

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Archives of all attempts."""
        return tuple(one.run_id for one in self.attempts if one.run_id is not None)


class NightRecord(_Record, frozen=True, kw_only=True):
    """The whole night; times are UTC labels, `cost` is in the plan's currency."""

    plan: str
    night: str  # ISO date on which it was to begin
    scheduled_unix_ns: int
    started_unix_ns: int
    ended_unix_ns: int | None
    state: NightState
    why: str
    is_caught_up: bool
    missed: tuple[str, ...]
    host: HostReading | None
    notes: tuple[str, ...]
    steps: tuple[StepRecord, ...]
    took_ns: int
    cost: float

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Archives of all its runs."""
        return tuple(run_id for step in self.steps for run_id in step.run_ids)


class LastResult(_Record, frozen=True, kw_only=True):
    """The dead-man file."""

    night: str
    state: NightState
    written_unix_ns: int


def record_path(results: Path, night: str) -> Path:
    """Where a night is kept."""
    return results / FOLDER / f"{night}.json"


def _write(path: Path, value: msgspec.Struct) -> None:
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def write_record(results: Path, record: NightRecord) -> Path:
    """In one step; HarnessError when it cannot be written."""
    path = record_path(results, record.night)
    _write(path, record)
    return path


def write_last_result(results: Path, record: NightRecord, now_unix_ns: int) -> None:
    """Say that a night came to a result; one that measured nothing leaves the older one."""
    if record.state not in _RESULTS:
        return
    last = LastResult(night=record.night, state=record.state, written_unix_ns=now_unix_ns)
    _write(results / FOLDER / LAST_RESULT, last)


def _read(path: Path, kind: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, ValueError) as error:
        expected = "a file that headroom nightly wrote"
        raise HarnessError(where=str(path), seen=str(error), expected=expected) from error


def read_last_result(results: Path) -> LastResult | None:
    """None where no night has ended yet; HarnessError for a damaged file."""
    path = results / FOLDER / LAST_RESULT
    if not path.exists():
        return None
    found = _read(path, LastResult)
    assert isinstance(found, LastResult)
    return found


def silence_of(
    last: LastResult | None, now_unix_ns: int, most_ns: int, begun_unix_ns: int | None = None
) -> str | None:
    """Why the nights count as stopped; None where a result is younger than `most_ns`.

    `begun_unix_ns` is when the night began that is under way, in its time: one that takes longer
    than the one before it is no silence, if there was none when it began.
    """
    if last is None:
        return "no night has ended yet"
    age_ns = now_unix_ns - last.written_unix_ns
    under_way_ns = 0 if begun_unix_ns is None else max(0, now_unix_ns - begun_unix_ns)
    if age_ns - under_way_ns > most_ns:
        limit = format_duration(most_ns)
        return f"no result for {age_ns / _NS_PER_H:.1f} h, more than {limit}"
    if age_ns < 0:
        return f"the last result is {-age_ns / _NS_PER_H:.1f} h ahead of this clock"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nights:
    """What a results folder knows of its nights, oldest first."""

    records: tuple[NightRecord, ...]
    damaged: Mapping[str, str]  # what is wrong, by night

    @property
    def last(self) -> str | None:
        """The night that began last, damaged or not; ISO date."""
        return max((*(one.night for one in self.records), *self.damaged), default=None)


def read_records(results: Path) -> Nights:
    """All nights; one whose file is damaged is named, and stands in the way of no other."""
    found: list[NightRecord] = []
    damaged: dict[str, str] = {}
    for path in sorted((results / FOLDER).glob(_PATTERN)):
        try:
            record = _read(path, NightRecord)
        except HarnessError as error:
            damaged[path.stem] = str(error)
            continue
        assert isinstance(record, NightRecord)
        found.append(record)
    return Nights(records=tuple(found), damaged=damaged)


def history_of(records: Sequence[NightRecord]) -> tuple[HostReading, ...]:
    """What hosts were measured to be, oldest first."""
    return tuple(record.host for record in records if record.host is not None)
