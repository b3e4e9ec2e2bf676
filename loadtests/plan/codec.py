"""A plan as bytes, and the hash that tells two plans apart.

The bytes travel from master to agents to engines and are hashed at preflight, so they
are a function of the plan alone: field order is the declaration's, nothing is keyed by
a set or by memory order. Decoding is strict: a wrong type or a missing field is refused.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from loadtests.plan.model import Plan

_DECODER: Final = msgspec.msgpack.Decoder(Plan)


def encode_plan(plan: Plan) -> bytes:
    """MessagePack of all fields; equal plans give equal bytes."""
    return msgspec.msgpack.encode(plan)


def decode_plan(data: bytes) -> Plan:
    """Inverse of `encode_plan`; ValueError when the bytes are not a plan of this version."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a plan: {error}") from error


def plan_hash(data: bytes) -> str:
    """SHA-256 of `encode_plan`'s bytes in hex: 64 digits."""
    return hashlib.sha256(data).hexdigest()
