"""What a night may take: time, and money at the price of its fleet an hour."""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.clock import NS_PER_S
from loadtests.plan.units import format_duration

_NS_PER_H = 3600 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Of one night; `most_cost` None: no limit. `beside_ns` is added to every run's length."""

    time_ns: int
    most_cost: float | None
    cost_per_hour: float
    beside_ns: int

    def cost(self, spent_ns: int) -> float:
        """What hosts cost that were up for so long."""
        return self.cost_per_hour * spent_ns / _NS_PER_H

    def refusal(self, spent_ns: int, length_ns: int) -> str | None:
        """Why a run of this length would go beyond it; None where it fits."""
        whole_ns = spent_ns + length_ns + self.beside_ns
        if whole_ns > self.time_ns:
            return (
                f"the night would take {format_duration(whole_ns)} of "
                f"{format_duration(self.time_ns)}"
            )
        if self.most_cost is not None and self.cost(whole_ns) > self.most_cost:
            return f"the night would cost {self.cost(whole_ns):,.2f} of {self.most_cost:,.2f}"
        return None
