"""A capacity model as JSON; computes nothing. What is infinite or not known is null."""

from __future__ import annotations

import math
from typing import Final

from analysis.capacity.model.bill import Bill
from analysis.capacity.model.estimates import Estimate
from analysis.capacity.model.model import Model
from analysis.show import Json, JsonValue

MODEL_SCHEMA: Final = 1


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _estimate_json(one: Estimate) -> Json:
    return {
        "value": _number(one.value),
        "low": _number(one.interval.low),
        "high": _number(one.interval.high),
        "left_out_low": _number(one.stability.low),
        "left_out_high": _number(one.stability.high),
        "is_stable": one.stability.is_stable,
        "is_extrapolated": one.is_extrapolated,
    }


def _bill_json(bill: Bill) -> Json:
    needed = bill.needed

    def open_(low: float, high: float | None) -> Json:
        """An end that is null is infinite where it is known, and else not known."""
        return {
            "low": _number(low),
            "high": None if high is None else _number(high),
            "is_high_known": high is not None,
        }

    return {
        "rate_per_s": needed.per_s,
        "spare": needed.spare.value,
        "nodes": open_(needed.low, needed.high),
        "generator_hosts": open_(bill.generator_hosts.low, bill.generator_hosts.high),
        "cost_per_month": open_(bill.month.low, bill.month.high),
        "cost_per_million_requests": open_(bill.per_million.low, bill.per_million.high),
        "is_extrapolated": needed.is_extrapolated,
    }


def model_to_json(model: Model) -> Json:
    """Everything that the page says; null for what is infinite or not known."""
    estimates: Json = {one.figure.value: _estimate_json(one) for one in model.estimates}
    points: list[JsonValue] = [
        {
            "run_id": one.point.run_id,
            "stage": one.point.stage,
            "n": one.point.n,
            "per_s": one.point.per_s,
            "fitted_per_s": one.fitted_per_s,
            "residual": one.residual,
        }
        for one in model.fitted
    ]
    return {
        "schema_version": MODEL_SCHEMA,
        "scenarios": list[JsonValue](model.scenarios),
        "scale": model.scale,
        "is_scaled": model.scale != 1.0,
        "over": model.axis.value,
        "errors": model.errors.value,
        "largest_n": model.largest_n,
        "law": estimates,
        "points": points,
        "breaks": [
            {
                "nodes": one.nodes,
                "holds_per_s": one.holds_per_s,
                "breaks_per_s": one.breaks_per_s,
                "broken": list[JsonValue](one.broken),
                "where": one.where,
            }
            for one in model.breaks
        ],
        "currency": model.costs.currency,
        "demand": [_bill_json(bill) for bill in model.bills],
        "void": [
            {"run_id": void.run_id, "stage": void.stage, "reason": void.reason}
            for void in model.voids
        ],
    }
