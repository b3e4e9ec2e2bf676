"""CryptoService: signatures over messages, made with what the standard library has.

Honest about its algorithm: HMAC-SHA-256 (RFC 2104), a keyed digest that only who knows the
cluster's secret can verify, and no other; whoever asks for another one is told. Each key id is
a key of its own, derived from the secret of the ledger, so that every node verifies what
another one has signed.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import Final

from loadtests.cluster.generated.aurigraph_v11_pb2 import (
    DESCRIPTOR,
    SignRequest,
    SignResponse,
    Status,
    VerifyRequest,
    VerifyResponse,
)
from loadtests.cluster.grpc_calls import Service, now_timestamp

ALGORITHM: Final = "HMAC-SHA-256"
_MAX_KEYS: Final = 1_024  # kept at hand


class CryptoCalls:
    """Handlers."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._key = lru_cache(_MAX_KEYS)(self._derive)

    def service(self) -> Service:
        """The service as it is registered."""
        return Service(
            descriptor=DESCRIPTOR.services_by_name["CryptoService"],
            handlers={"Sign": self._sign, "Verify": self._verify},
            is_probe=False,
        )

    def _sign(self, request: SignRequest) -> SignResponse:
        status = _status_for(request.algorithm)
        signature = self._signature(request.key_id, request.message) if not status.code else b""
        return SignResponse(
            signature=signature, key_id=request.key_id, signed_at=now_timestamp(), status=status
        )

    def _verify(self, request: VerifyRequest) -> VerifyResponse:
        status = _status_for(request.algorithm)
        expected = self._signature(request.key_id, request.message)
        is_valid = not status.code and hmac.compare_digest(expected, request.signature)
        return VerifyResponse(is_valid=is_valid, status=status, verified_at=now_timestamp())

    def _signature(self, key_id: str, message: bytes) -> bytes:
        return hmac.digest(self._key(key_id), message, "sha256")

    def _derive(self, key_id: str) -> bytes:
        return hmac.digest(self._secret, key_id.encode(), "sha256")


def _status_for(algorithm: str) -> Status:
    if algorithm in ("", ALGORITHM):
        return Status(code=Status.OK)
    message = f"this stand-in signs with {ALGORITHM} alone, not with {algorithm!r}"
    return Status(code=Status.INVALID_ARGUMENT, message=message)
