"""The wire between master and agents: strict, total, checksummed."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.record.manifest import HostFacts
from loadtests.swarm.messages import (
    MAX_TO_MASTER_BYTES,
    NO_TOTALS,
    Ack,
    AgentPhase,
    Batch,
    EnginePhase,
    EngineState,
    Hello,
    Lease,
    MessageError,
    Progress,
    Snapshot,
    decode_to_agent,
    decode_to_master,
    encode_message,
)

HOST = HostFacts(
    hostname="h", cores=1, kernel="Linux", cpu_model="c", memory_bytes=1, python="CPython 3"
)


def good_hello() -> Hello:
    """A valid first message."""
    return Hello(
        protocol=1,
        agent="a",
        incarnation="i",
        host=HOST,
        boot_id="b",
        engines=2,
        version="0.1.0",
        versions={"locust": "2"},
    )


def good_snapshot() -> Snapshot:
    """A valid report with one batch."""
    state = EngineState("a/0", 0, EnginePhase.RUNNING, None, None, None, "", ())
    return Snapshot(
        run_id="run",
        agent="a",
        incarnation="i",
        sequence=3,
        plan_sha256="0" * 64,
        phase=AgentPhase.RUNNING,
        attempt=1,
        takeovers=0,
        last_batch=1,
        complete_through_s=5,
        engines=(state,),
        batches=(Batch(1, 5, b"window", (Progress(0, 1, 5, NO_TOTALS),)),),
        dropped_messages=0,
        warnings=(),
        failure_family=None,
        failure=None,
    )


def sealed(body: bytes) -> bytes:
    """Any body under a right checksum."""
    return zlib.crc32(body).to_bytes(4, "big") + body


@pytest.mark.parametrize("message", [good_hello(), good_snapshot()], ids=["hello", "snapshot"])
def test_messages_to_the_master_come_back_as_they_left(message: Hello | Snapshot) -> None:
    """Encoding and decoding are inverse."""
    assert decode_to_master(encode_message(message)) == message


def test_messages_to_agents_come_back_as_they_left() -> None:
    """Encoding and decoding are inverse, for negative clocks too."""
    lease = Lease(run_id="run", incarnation="i", attempt=1, sent_ns=5, until_ns=-7)
    assert decode_to_agent(encode_message(lease)) == lease


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else_is_raised(data: bytes) -> None:
    """Garbage is a MessageError for either side, sealed with a right checksum or not."""
    for candidate in (data, sealed(data)):
        for decode in (decode_to_master, decode_to_agent):
            with pytest.raises(MessageError):
                decode(candidate)


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_a_flipped_bit_is_refused(place: int, bit: int) -> None:
    """The checksum finds every single flipped bit."""
    data = bytearray(encode_message(good_snapshot()))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(MessageError):
        decode_to_master(bytes(data))


@pytest.mark.parametrize(
    "value", [None, 7, "text", {"a": 1}, [1], bytearray(b"12345"), b"", b"1234"], ids=repr
)
def test_values_that_are_no_bytes_are_refused(value: object) -> None:
    """A message bus delivers any msgpack value; only bytes of a message are one."""
    with pytest.raises(MessageError):
        decode_to_master(value)


def test_an_oversized_message_is_refused_before_it_is_read() -> None:
    """The size limit holds whatever is inside."""
    with pytest.raises(MessageError, match="bytes, expected"):
        decode_to_master(bytes(MAX_TO_MASTER_BYTES + 1))


def test_each_side_refuses_the_other_sides_messages() -> None:
    """A reflected message is not taken for one's own kind."""
    ack = Ack(run_id="run", incarnation="i", batch=1, lease=None)
    with pytest.raises(MessageError):
        decode_to_master(encode_message(ack))
    with pytest.raises(MessageError):
        decode_to_agent(encode_message(good_hello()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent", "a/../b"),
        ("agent", "a\n"),
        ("agent", ""),
        ("agent", "x" * 101),
        ("sequence", -1),
        ("sequence", 2**63),
        ("sequence", 1.5),
        ("sequence", "3"),
        ("phase", 99),
        ("phase", "RUNNING"),
        ("warnings", ["w"] * 65),
        ("warnings", ["w" * 2001]),
        ("batches", [[0, 5, b"", []]]),
        ("engines", [["a/0"]]),
        ("unknown", 1),
    ],
)
def test_wrong_types_ranges_and_names_are_refused(field: str, value: object) -> None:
    """Strict types: hostile names, impossible numbers and unknown fields do not get in."""
    body = msgspec.msgpack.decode(encode_message(good_snapshot())[4:])
    body[field] = value
    with pytest.raises(MessageError):
        decode_to_master(sealed(msgspec.msgpack.encode(body)))


def test_nested_bombs_are_refused() -> None:
    """Ten thousand nested arrays end in a MessageError, not in the stack."""
    with pytest.raises(MessageError):
        decode_to_master(sealed(b"\x91" * 10_000 + b"\x00"))
