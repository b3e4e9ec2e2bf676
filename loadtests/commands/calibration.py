"""The measured cost of a request on this machine: written by `calibrate`, read by `check`.

A small JSON file in the user's state folder. A cost that nobody measured is unknown, and
feasibility says so; a damaged file is reported, not guessed around.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError, Mistake, ScenarioError
from loadtests.plan.feasibility import GeneratorCosts, RequestKind
from loadtests.plan.host import state_folder
from loadtests.record.facts import engine_python

# A second of CPU for one request, a terabyte of bytes, a date of datetime: more is a slip.
_CpuNs = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
_PerS = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
_Bytes = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_UnixNs = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Name = Annotated[str, msgspec.Meta(max_length=200, pattern="^[ -~]*$")]  # of what is printed
_Cores = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class ProtocolCost(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol's figures; rates are of this machine with target and generator on it."""

    request_ns: _CpuNs  # CPU of the engine per request, the least of the tries
    request_ns_low: _CpuNs  # smallest and largest of the tries
    request_ns_high: _CpuNs
    saturation_per_s: _PerS  # answers per second, closed load against the embedded cluster
    # Of the mix in that load; None: not by the version that wrote it.
    mix_request_ns: _CpuNs | None = None
    sent_bytes: _Bytes | None = None  # of one request, and of its answer
    received_bytes: _Bytes | None = None

    def __post_init__(self) -> None:
        """What no field says alone."""
        if self.request_ns_low > self.request_ns_high:
            raise ValueError("request_ns_low is above request_ns_high")


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What one calibration measured; None: not by the version that wrote it."""

    measured_unix_ns: _UnixNs
    cores: _Cores
    python: _Name | None = None  # what its engines ran on: compiled, they take a third less
    http1: ProtocolCost | None = None
    grpc: ProtocolCost | None = None  # unary calls


def calibration_path() -> Path:
    """`$XDG_STATE_HOME/headroom/calibration.json`."""
    return state_folder() / "calibration.json"


def load_calibration(path: Path | None = None) -> Calibration | None:
    """A calibration, else the last one of this user on this machine; None where there is none.

    Damaged, a file that the user named is their mistake (ScenarioError), our own a HarnessError.
    """
    file = calibration_path() if path is None else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=Calibration)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        where, seen, expected = str(file), str(error), "a calibration (headroom calibrate)"
        if path is not None:
            mistake = Mistake(where="--calibration", seen=seen, expected=expected)
            raise ScenarioError(where, (mistake,)) from error
        raise HarnessError(where=where, seen=seen, expected=expected) from error


def load_costs() -> GeneratorCosts | None:
    """The calibrated costs of requests, None where nobody has calibrated."""
    calibration = load_calibration()
    if calibration is None:
        return None
    return GeneratorCosts(
        request_ns={kind: one.request_ns for kind, one in costs_by_kind(calibration).items()},
        basis=basis_here(calibration),
    )


def costs_by_kind(calibration: Calibration) -> dict[RequestKind, ProtocolCost]:
    """What was measured, by the kind of request."""
    measured = {RequestKind.HTTP1: calibration.http1, RequestKind.UNARY: calibration.grpc}
    return {kind: one for kind, one in measured.items() if one is not None}


def day_of(calibration: Calibration) -> str:
    """The day of the measurement, ISO, UTC."""
    day = datetime.fromtimestamp(calibration.measured_unix_ns // NS_PER_S, tz=UTC)
    return day.date().isoformat()


def basis_of(calibration: Calibration) -> str:
    """The day of the measurement, and what engines ran on."""
    on = calibration.python
    return day_of(calibration) + (f" with {on}" if on is not None else "")


def basis_here(calibration: Calibration) -> str:
    """The same of this machine's; what engines run on now is added where it is another."""
    now = engine_python()
    is_same = calibration.python in (None, now)
    return basis_of(calibration) + ("" if is_same else f"; this is {now}")


def store_calibration(calibration: Calibration) -> Path:
    """Write it in one step; HarnessError when the folder cannot be written."""
    path = calibration_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(calibration)))
        fresh.replace(path)
    except OSError as error:
        raise HarnessError(
            where=str(path), seen=str(error), expected="a folder that can be written"
        ) from error
    return path
