"""gRPC in scenario files: what each key means in a plan, and where types come from."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_schemas import CALLS, PROTOS, call, compiled, parsed, written

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.errors import ScenarioError, TargetError
from loadtests.plan.authorisation import AuthorisedTarget, Configuration, refuse_unauthorised
from loadtests.plan.call import (
    CODES,
    SINGLE,
    CallShape,
    Compression,
    Endpoint,
    FieldEquals,
    Multiplexing,
    Protocol,
)
from loadtests.plan.codec import decode_plan, encode_plan
from loadtests.plan.costs import measure_messages
from loadtests.plan.feasibility import HostLimits, Severity, assess
from loadtests.plan.message import MessageKind, compile_message
from loadtests.plan.model import Plan
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.plan.schema import message_type

HERE = Path(__file__).parent
NOBODY = Configuration(path=None, targets=())
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def good() -> Plan:
    """Plan with every key of gRPC."""
    return resolve(load_scenario(HERE / "good" / "grpc.toml"))


def plan_of(folder: Path, text: str, **options: object) -> Plan:
    """Plan of a text."""
    return resolve(load_scenario(written(folder, text)), **options)  # type: ignore[arg-type]  # by name


def mistakes_of(folder: Path, text: str) -> list[str]:
    """Messages of a text that must not load."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(written(folder, text))
    return [str(mistake) for mistake in caught.value.mistakes]


def test_every_key_of_a_call_reaches_the_plan() -> None:
    """Method, metadata, deadline, compression, codes and checks are in the request."""
    request = good().requests[0]
    assert (request.protocol, request.method) == (Protocol.GRPC, "POST")
    assert request.path == "/kinds.v1.KindsService/Echo"
    assert (request.weight, request.timeout_ns) == (3.0, 250 * NS_PER_MS)
    assert request.headers == (
        ("authorization", "Bearer ${env:TOKEN}"),
        ("trace-bin", "${hex:16}"),
        ("x-user", "${users.id}"),
    )
    echo = call(good(), 0)
    assert (echo.method, echo.response_type) == ("kinds.v1.KindsService/Echo", "kinds.v1.Kinds")
    assert echo.compression is Compression.GZIP
    assert [CODES[code] for code in echo.expected_codes] == ["OK", "NOT_FOUND"]
    assert echo.checks[0] == FieldEquals(path="child.colour", value="RED")
    assert echo.checks[1] == FieldEquals(path="children.0.i32", value=-5)


def test_shapes_come_from_the_types_and_streams_have_their_keys() -> None:
    """A method says what streams; messages and pace are those of the client's stream."""
    calls = [call(good(), index) for index in range(5)]
    assert [one.shape for one in calls] == [
        CallShape.UNARY,
        CallShape.SERVER_STREAM,
        CallShape.CLIENT_STREAM,
        CallShape.BIDIRECTIONAL,
        CallShape.UNARY,
    ]
    assert [one.messages for one in calls] == [1, 1, 20, 1, 1]
    assert [one.pace_ns for one in calls] == [0, 0, 10 * NS_PER_MS, 0, 0]
    assert calls[1].message == ()
    assert [one.compression for one in calls[1:]] == [Compression.IDENTITY] * 4
    assert [one.expected_codes for one in calls[1:]] == [(0,)] * 4


def test_messages_of_a_plan_render_as_written() -> None:
    """Table, file, JSON text and a bare wrapper value become messages of the method's type."""
    plan = good()
    kind = message_type(plan.descriptors, "kinds.v1.Kinds")
    texts = []
    for index in range(4):
        template = compile_message(
            call(plan, index).message,
            run_id="r",
            seed=1,
            feeds=plan.feeds,
            environment={},
            where="message",
        )
        texts.append(parsed(kind, template.render_many(np.arange(2))[1]))
    echo, watch, collect, talk = texts
    assert (len(echo.text), echo.i64, echo.texts[0]) == (36, 1, "${x}")
    assert len(echo.child.data) == 6
    assert watch.ByteSize() == 0
    assert collect.text == "from a file, 1"
    assert 1 <= talk.i32 <= 9
    assert len(talk.wrapped_text.value) == 36


def test_nodes_have_a_grpc_port_of_their_own() -> None:
    """A node has two URLs, TLS for either, and one connection setting for HTTP/2."""
    plan = good()
    assert plan.nodes[0].grpc == Endpoint(scheme="http", host="127.0.0.1", port=9104)
    assert plan.nodes[1].grpc == Endpoint(scheme="https", host="::1", port=9444)
    assert plan.nodes[1].grpc.authority == "[::1]:9444"
    assert plan.nodes[1].base_path == "/prefix"
    assert plan.tls is not None
    assert plan.multiplexing == Multiplexing(
        connections=16, streams=50, keepalive_ns=30 * NS_PER_S, authority="kinds.test:443"
    )
    assert (plan.connections, plan.in_flight_limit) == (8, 8 + 16 * 50)
    assert plan.all_connections == 24


def test_tls_of_a_grpc_port_alone_is_tls() -> None:
    """TLS settings are made when any URL of a node is https."""
    plan = resolve(
        load_scenario(HERE / "good" / "grpc.toml"),
        targets=("http://127.0.0.1:1,grpc=https://127.0.0.1:2",),
    )
    assert plan.tls is not None
    assert plan.nodes[0].grpc == Endpoint(scheme="https", host="127.0.0.1", port=2)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:1,grpc=http://127.0.0.1:2/x",
        "http://127.0.0.1:1,grpc=127.0.0.1:2",
        "http://127.0.0.1:1,grpc=http://u@127.0.0.1:2",
        "grpc=http://127.0.0.1:2",
    ],
)
def test_a_wrong_grpc_target_is_refused(text: str) -> None:
    """The URL of a gRPC port has scheme and host and nothing else."""
    with pytest.raises(ScenarioError, match=r"--target\[0\]"):
        resolve(load_scenario(HERE / "good" / "grpc.toml"), targets=(text,))


def test_a_plan_takes_along_only_the_files_that_its_calls_need(tmp_path: Path) -> None:
    """Descriptors are those of the calls' services and their imports, without comments."""
    text = CALLS.replace('["kinds.proto"]', '["kinds.proto", "other.proto"]')
    other = 'syntax = "proto3"; package other; message M {} service S { rpc R(M) returns (M); }'
    (tmp_path / "other.proto").write_text(other, encoding="utf-8")
    files = FileDescriptorSet.FromString(plan_of(tmp_path, text).descriptors).file
    assert files[-1].name == "kinds.proto"
    assert {file.name.split("/")[0] for file in files} == {"google", "kinds.proto"}
    assert not any(file.HasField("source_code_info") for file in files)
    rest = resolve(load_scenario(HERE / "good" / "minimal.toml"))
    assert (rest.descriptors, rest.multiplexing) == (b"", SINGLE)


def test_a_plan_of_calls_survives_its_encoding() -> None:
    """Parts, checks and endpoints travel; equal plans have equal bytes."""
    plan = good()
    assert decode_plan(encode_plan(plan)) == plan
    assert encode_plan(good()) == encode_plan(plan)


def test_a_descriptor_set_is_as_good_as_protos(tmp_path: Path) -> None:
    """Types from a file of descriptors make the same plan, text aside."""
    written(tmp_path, CALLS)
    (tmp_path / "types.pb").write_bytes(compiled("kinds.proto"))
    text = CALLS.replace('protos = ["kinds.proto"]', 'descriptor_set = "types.pb"')
    plan = plan_of(tmp_path, text)
    from_protos = plan_of(tmp_path, CALLS)
    assert dataclasses.replace(plan, scenario_text=CALLS) == from_protos


def test_a_descriptor_set_without_its_imports_is_refused(tmp_path: Path) -> None:
    """What is missing is named."""
    files = FileDescriptorSet.FromString(compiled("kinds.proto"))
    (tmp_path / "types.pb").write_bytes(
        FileDescriptorSet(
            file=[file for file in files.file if file.name == "kinds.proto"]
        ).SerializeToString()
    )
    text = CALLS.replace('protos = ["kinds.proto"]', 'descriptor_set = "types.pb"')
    (mistake,) = mistakes_of(tmp_path, text)
    assert mistake.startswith('grpc.descriptor_set: saw "types.pb"')
    assert "google/protobuf/" in mistake


@pytest.mark.parametrize("name", ["--python_out=.", "@options.proto"])
def test_a_proto_cannot_be_an_option_of_protoc(tmp_path: Path, name: str) -> None:
    """Names are names, even if a file is called so."""
    (tmp_path / name).write_text('syntax = "proto3";', encoding="utf-8")
    (mistake,) = mistakes_of(tmp_path, CALLS.replace("kinds.proto", name))
    assert mistake.startswith("grpc.protos[0]")
    assert not list(tmp_path.glob("*_pb2.py"))


def test_imports_are_found_in_the_folders_that_are_named(tmp_path: Path) -> None:
    """A file may import what lies in another folder, when that is an include."""
    inner = tmp_path / "inner"
    inner.mkdir()
    text = CALLS.replace("kinds.v1.KindsService/Echo", "legacy.Orders/Place")
    text = text.replace('["kinds.proto"]', '["legacy.proto"]')
    text = text.replace('legacy.Orders/Place"', 'legacy.Orders/Place"\nmessage = { id = "x" }')
    for name, folder in (("legacy.proto", tmp_path), ("shared.proto", inner)):
        (folder / name).write_bytes((PROTOS / "legacy" / name).read_bytes())
    assert any("shared.proto" in mistake for mistake in mistakes_of(tmp_path, text))
    named = text.replace('["legacy.proto"]', '["legacy.proto"]\nincludes = [".", "inner"]')
    assert call(plan_of(tmp_path, named), 0).response_type == "legacy.Order"


def test_a_foreign_grpc_port_must_be_authorised_as_well() -> None:
    """Authorisation looks at every host that a node's URLs name."""
    plan = resolve(
        load_scenario(HERE / "good" / "grpc.toml"),
        targets=("http://127.0.0.1:1,grpc=http://grpc.example:2",),
    )
    with pytest.raises(TargetError, match=r"grpc\.example"):
        refuse_unauthorised(plan, NOBODY, NOW)
    entry = AuthorisedTarget(
        host="grpc.example",
        owner="us",
        max_rate_per_s=plan.max_rate_per_s,
        expires=None,
        proof=None,
    )
    refuse_unauthorised(plan, Configuration(path=None, targets=(entry,)), NOW)
    slower = dataclasses.replace(entry, max_rate_per_s=plan.max_rate_per_s / 2)
    with pytest.raises(TargetError, match="ceiling"):
        refuse_unauthorised(plan, Configuration(path=None, targets=(slower,)), NOW)


def test_channels_have_defaults_and_scale(tmp_path: Path) -> None:
    """4 channels a node of 100 streams; they scale with the rate, their streams do not."""
    plan = plan_of(tmp_path, CALLS.replace("channels = 4\n", ""))
    assert plan.multiplexing == Multiplexing(
        connections=4, streams=100, keepalive_ns=0, authority=None
    )
    assert (plan.connections, plan.in_flight_limit) == (0, 400)
    large = CALLS.replace("channels = 4", "channels = 1000\nstreams = 20")
    scaled = plan_of(tmp_path, large, scale=0.1)
    assert (scaled.multiplexing.connections, scaled.multiplexing.streams) == (100, 20)
    assert scaled.in_flight_limit == 2000
    assert plan_of(tmp_path, large, scale=0.001).multiplexing.connections == 4


def test_closed_load_has_a_stream_a_user(tmp_path: Path) -> None:
    """Levels of closed load over HTTP/2 are users; channels follow from them or are named."""
    plan = resolve(load_scenario(HERE / "good" / "http2.toml"))
    assert {request.protocol for request in plan.requests} == {Protocol.HTTP2}
    assert (plan.connections, plan.in_flight_limit) == (0, 250)
    assert (plan.multiplexing.connections, plan.multiplexing.streams) == (3, 100)
    closed = CALLS.replace('rate = "100 rps"', 'model = "closed"\nconnections = 800')
    named = plan_of(tmp_path, closed.replace("channels = 4", "channels = 8"))
    assert (named.multiplexing.connections, named.in_flight_limit) == (8, 800)


@pytest.mark.parametrize(("protocol", "word"), [("http1", "HTTP/1.1"), ("http2", "HTTP/2")])
def test_closed_load_is_of_one_protocol(tmp_path: Path, protocol: str, word: str) -> None:
    """A user waits for its answer on its own connection: the engine has none of two protocols."""
    closed = CALLS.replace('rate = "100 rps"', 'model = "closed"\nconnections = 800')
    rest = '\n[[requests]]\nname = "rest"\npath = "/"\n'
    text = (closed + rest).replace("[target]", f'[target]\nprotocol = "{protocol}"')
    (mistake,) = mistakes_of(tmp_path, text.replace("channels = 4", "channels = 8"))
    assert mistake == (
        f"requests: saw {word} and gRPC; expected requests of one protocol in closed load, whose "
        "users wait for their answers"
    )


def test_http2_has_no_place_for_connection_headers(tmp_path: Path) -> None:
    """Headers of HTTP/1.1 connections are refused over HTTP/2 and allowed before."""
    text = (HERE / "good" / "http2.toml").read_text(encoding="utf-8")
    text = text.replace('path = "/q/health"', 'path = "/"\nheaders = { Keep-Alive = "1" }')
    assert mistakes_of(tmp_path, text)[0].startswith("requests[0].headers.Keep-Alive")
    plan_of(tmp_path, text.replace('"http2"\n\n', '"http1"\n\n'))


LIMITS = HostLimits(cores=8, descriptors=20_000, ephemeral_ports=28_000)
OBJECTIVES = '\n[criteria]\nobjectives = ["p95 < 100 ms"]\n'


def refusals(plan: Plan, engines: int = 2) -> list[str]:
    """Texts of refusals."""
    found = assess(plan, LIMITS, None, hosts=1, engines=engines).findings
    return [one.text for one in found if one.severity is Severity.REFUSAL]


def test_littles_law_counts_streams(tmp_path: Path) -> None:
    """5,000 requests/s at 100 ms are 500 in flight: 5 channels x 100 streams and not 4."""
    text = CALLS.replace("100 rps", "5000 rps") + OBJECTIVES
    (text_of_refusal,) = refusals(plan_of(tmp_path, text))
    assert "500 in flight" in text_of_refusal
    assert "4 channels x 100 streams" in text_of_refusal
    assert refusals(plan_of(tmp_path, text.replace("channels = 4", "channels = 5"))) == []


def test_a_mixed_plan_needs_room_for_both_kinds(tmp_path: Path) -> None:
    """Each kind gets its part of the arrivals, at its own limit."""
    text = CALLS.replace('rate = "100 rps"', 'rate = "1000 rps"\nconnections = 99')
    text += '\n[[requests]]\nname = "rest"\npath = "/"\n'
    text += '\n[criteria]\nobjectives = ["p95 < 100 ms on echo", "p95 < 200 ms on rest"]\n'
    plan = plan_of(tmp_path, text)
    (refusal,) = refusals(plan)
    assert "500 requests/s at 200 ms are 100 in flight" in refusal
    assert "99 connections" in refusal
    feasibility = assess(plan, LIMITS, None, hosts=1, engines=2)
    assert feasibility.in_flight_needed == pytest.approx(150.0)
    assert (feasibility.connections_per_engine, feasibility.channels_per_engine) == (50, 2)
    capped = text.replace("connections = 99", "connections = 100\nin_flight = 149")
    (refusal,) = refusals(plan_of(tmp_path, capped))
    assert "149" in refusal


def test_every_engine_needs_a_channel(tmp_path: Path) -> None:
    """Four channels are too few for five engines, and no connections are no mistake."""
    (refusal,) = refusals(plan_of(tmp_path, CALLS), engines=5)
    assert "4 channels for 5 engines" in refusal


def test_costs_are_measured_by_kind() -> None:
    """Each message of a plan has its kind, its size and what it costs here."""
    costs = measure_messages(good())
    kinds_found = [cost.kind for cost in costs]
    assert [cost.request for cost in costs] == ["echo", "watch", "collect", "talk", "find"]
    assert kinds_found[:3] == [
        MessageKind.VARYING_LENGTH,
        MessageKind.CONSTANT,
        MessageKind.VARYING_LENGTH,
    ]
    assert costs[1].size_bytes == 0
    assert all(cost.render_ns > 0 for cost in costs)
