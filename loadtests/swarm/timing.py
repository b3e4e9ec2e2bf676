"""The swarm's timing constants, in one place because they only make sense together.

The promises they keep: a killed agent is noticed within 3 s and a hung one within 4 s
(beat + silence + one tick of the caller), load ends within the lease + 1 s of the
master's death. A beat is longer than the second between two windows, so that under load
an agent says nothing else: each message costs the master 0.1 ms, 1,000 agents beat.
`Timing()` is production; simulations hand in shorter ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.clock import NS_PER_MS, NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """All in nanoseconds of a monotonic clock, but `clock_rounds`."""

    beat_ns: int = 1_200 * NS_PER_MS  # an agent is never silent for longer
    silence_ns: int = 2_500 * NS_PER_MS  # silence that means loss
    repeat_ns: int = 1 * NS_PER_S  # unconfirmed messages are sent again
    urgent_ns: int = 500 * NS_PER_MS  # those that a start or an end waits for
    lease_ns: int = 10 * NS_PER_S
    # Acknowledgements bring a lease a second; this is for whom nothing is acknowledged.
    renew_ns: int = 2 * NS_PER_S
    drift_ns: int = 10 * NS_PER_S  # between two looks at an agent's clock under load
    lease_margin_ns: int = 1 * NS_PER_S  # by when an engine has noticed that its lease ended
    lead_ns: int = 2 * NS_PER_S  # T0 is at least this far ahead
    confirm_ns: int = 500 * NS_PER_MS  # T0 is moved if not confirmed this long before
    start_ns: int = 60 * NS_PER_S  # barrier to T0, connecting not counted
    takeover_ns: int = 1 * NS_PER_S  # least notice that survivors get
    drain_margin_ns: int = 5 * NS_PER_S  # beyond the grace, until a FINAL counts as missing
    kill_margin_ns: int = 2 * NS_PER_S  # beyond the grace, until the agent kills an engine
    linger_ns: int = 2 * NS_PER_S  # master repeats Quit this long after the end
    stall_ns: int = 1 * NS_PER_S  # between two ticks: master or agent itself stood still
    orphan_ns: int = 15 * NS_PER_S  # an agent without load gives a silent master up
    hiccup_wait_ns: int = 200 * NS_PER_MS  # a finished second waits for the ticker's figures
    clock_rounds: int = 8  # pings before the barrier
    clock_round_ns: int = 50 * NS_PER_MS  # between them

    def __post_init__(self) -> None:
        """Refuse constants that would break a promise by themselves."""
        if not self.beat_ns < self.silence_ns < self.lease_ns:
            raise ValueError("beat < silence < lease must hold")
        if not self.renew_ns * 2 < self.lease_ns:
            raise ValueError("two renewals must fit into a lease")
        if not self.confirm_ns < self.lead_ns:
            raise ValueError("T0 must be confirmed before it is moved")
