"""What a peer can do wrong on HTTP/2, by what it ends: the connection or one stream."""

from __future__ import annotations

from loadtests.engine.frames import ErrorCode


class ConnectionFault(Exception):  # noqa: N818 - a verdict on the peer, not an error of ours
    """The peer broke the connection's rules (RFC 9113, 5.4.1)."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(f"{code.name}: {text}")


class StreamFault(Exception):  # noqa: N818 - as above
    """The peer broke a stream's rules (RFC 9113, 5.4.2)."""

    def __init__(self, kind: str, text: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        self.kind, self.text, self.code = kind, text, code
        super().__init__(f"{kind}: {text}")


def require(holds: bool, text: str) -> None:  # noqa: FBT001 - an assertion on the peer
    """Raise ConnectionFault unless it holds."""
    if not holds:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, text)


def require_size(payload: bytes, size: int) -> None:
    """Raise ConnectionFault unless a frame has the one size that its type has."""
    if len(payload) != size:
        text = f"a frame of {len(payload)} bytes that has {size}"
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, text)
