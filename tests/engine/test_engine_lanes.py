"""Which ways a plan has to its nodes, and how connections divide over them."""

from __future__ import annotations

import dataclasses

import pytest
from engine_plans import node, request
from grpc_plans import call, grpc_plan, http2, multiplexing

from loadtests.engine.fleet import parts_of
from loadtests.engine.lanes import endpoint_of, lanes_of, lanes_of_slots
from loadtests.plan.call import Endpoint, Protocol
from loadtests.plan.model import Plan

_GRPC = Endpoint(scheme="https", host="10.0.0.1", port=9004)


def _mixed(**changes: object) -> Plan:
    nodes = (node(9003), node(9005, name="n2", weight=3.0))
    requests = [call("Echo", weight=1.0), request("/a", weight=2.0), http2(request("/b"))]
    plan = grpc_plan(1, requests)
    return dataclasses.replace(plan, nodes=nodes, connections=8, **changes)  # type: ignore[arg-type]


def test_grpc_goes_where_the_node_listens_for_it() -> None:
    """To its own endpoint if there is one, else to the base URL; REST always to the base URL."""
    with_endpoint = dataclasses.replace(node(9003), grpc=_GRPC)
    base = Endpoint(scheme="http", host="127.0.0.1", port=9003)
    assert endpoint_of(with_endpoint, Protocol.GRPC) == _GRPC
    assert endpoint_of(with_endpoint, Protocol.HTTP2) == base
    assert endpoint_of(with_endpoint, Protocol.HTTP1) == base
    assert endpoint_of(node(9003), Protocol.GRPC) == base


def test_every_slot_has_the_lane_of_its_request_and_node() -> None:
    """Three protocols and two nodes are six lanes, in the order of the enum."""
    plan = _mixed()
    lanes = lanes_of(plan)
    assert lanes.protocols == (Protocol.HTTP1, Protocol.HTTP2, Protocol.GRPC)
    found = lanes_of_slots(plan, lanes)
    for number, protocol in enumerate((Protocol.GRPC, Protocol.HTTP1, Protocol.HTTP2)):
        for at in range(2):
            assert found[plan.slots.slot(0, number, at)] == lanes.lane(protocol, at)


@pytest.mark.parametrize(("single", "many"), [(8, 12), (3, 5), (0, 0)])
def test_connections_divide_by_weight_and_no_lane_has_none(single: int, many: int) -> None:
    """Each kind adds up to its total, unless there are fewer than lanes: then it is one each."""
    parts = lanes_of(_mixed()).connections(single, many, 0)
    assert len(parts) == 6
    assert min(parts) == 1 if (single, many) != (8, 12) else min(parts) >= 1
    assert sum(parts[:2]) == max(2, single)
    assert sum(parts[2:]) == max(4, many)


def test_engines_take_parts_that_add_up() -> None:
    """Over three engines the parts are the whole; a kind without requests has none."""
    plan = _mixed(multiplexing=multiplexing(connections=7))
    parts = [parts_of(plan, index, 3, print) for index in range(3)]
    assert sum(part.connections for part in parts) == 8
    assert sum(part.multiplexed for part in parts) == 7
    only_grpc = parts_of(grpc_plan(1, [call("Echo")]), 0, 1, print)
    assert (only_grpc.connections, only_grpc.multiplexed) == (0, 2)
    assert only_grpc.carried(grpc_plan(1, [call("Echo")])) == 100


def test_a_part_of_nothing_is_said() -> None:
    """An engine without a connection could send nothing: it takes one more and warns."""
    said: list[str] = []
    parts = parts_of(grpc_plan(1, [call("Echo")]), 2, 3, said.append)
    assert parts.multiplexed == 1
    assert said == ["multiplexing.connections 2 for 3 engines: this one takes 1 more"]
