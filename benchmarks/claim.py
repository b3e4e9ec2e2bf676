"""A claim: one figure that Headroom promises, held against what was measured.

A claim is met, not met, or not measured; a part that was run with `--quick`, or shorter
than the claim demands, measures no claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.send_lag import LagSample, undisturbed_above_ticker_us
from benchmarks.spread import spread_of, undisturbed

_LAG_P50_LIMIT_US = 100.0
_LAG_ABOVE_TICKER_LIMIT_US = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One figure; `is_met` is None when it was not measured."""

    text: str
    limit: str
    measured: str
    is_met: bool | None

    @property
    def word(self) -> str:
        """Say it in a table."""
        return {True: "met", False: "**not met**", None: "not measured"}[self.is_met]


def missing(text: str, limit: str, why: str) -> Claim:
    """Make the claim of a figure that there is not."""
    return Claim(text=text, limit=limit, measured=why, is_met=None)


def ratio_text(undisturbed_ratio: float, of_rounds: Sequence[float]) -> str:
    """Write a ratio with the spread of its rounds."""
    return f"{undisturbed_ratio:.2f}; whole rounds {spread_of(of_rounds).text(2)}"


def lag_claims(what: str, samples: Sequence[LagSample], why: str) -> tuple[Claim, Claim]:
    """Hold the send lag at half of saturation against its limits; `why` there are no samples."""
    first = (f"{what} p50 at 50 % of saturation", f"<= {_LAG_P50_LIMIT_US / 1000} ms")
    second = (
        f"{what} p99 above the ticker's p99 at 50 % of saturation",
        f"<= {_LAG_ABOVE_TICKER_LIMIT_US / 1000} ms",
    )
    if not samples:
        return missing(*first, why), missing(*second, why)
    p50_ms = undisturbed([value for s in samples for value in s.p50_slices_us]) / 1000
    above_ms = undisturbed_above_ticker_us(samples) / 1000
    p50_rounds = spread_of([s.p50_us / 1000 for s in samples])
    above_rounds = spread_of([s.above_ticker_us / 1000 for s in samples])
    return (
        Claim(
            text=first[0],
            limit=first[1],
            measured=f"{p50_ms:.3f} ms; whole rounds {p50_rounds.text(3)}",
            is_met=p50_ms <= _LAG_P50_LIMIT_US / 1000,
        ),
        Claim(
            text=second[0],
            limit=second[1],
            measured=f"{above_ms:.3f} ms; whole rounds {above_rounds.text(3)}",
            # A ticker that was later than the engine tells of the neighbours, and of no engine.
            is_met=above_ms <= _LAG_ABOVE_TICKER_LIMIT_US / 1000 if above_ms >= 0 else None,
        ),
    )
