"""ConsensusService: who leads, and how each node stands.

The same lease in the shared ledger that the REST reports. A node's role and health come from
there; only of itself a node also knows whether its commits succeed.
"""

from __future__ import annotations

import time
from time import monotonic_ns

from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue
from grpc import StatusCode

from loadtests.cluster.generated.aurigraph_v11_pb2 import DESCRIPTOR, ConsensusMetrics, NodeState
from loadtests.cluster.grpc_calls import RefusedCallError, Service, build_timestamp
from loadtests.cluster.ledger import LEASE_NS, Member
from loadtests.cluster.workings import Workings


class ConsensusCalls:
    """Handlers."""

    def __init__(self, workings: Workings) -> None:
        self._name = workings.name
        self._store = workings.store
        self._committer = workings.committer

    def service(self) -> Service:
        """The service as it is registered."""
        return Service(
            descriptor=DESCRIPTOR.services_by_name["ConsensusService"],
            handlers={"GetMetrics": self._metrics, "GetNodeState": self._node_state},
            is_probe=False,
        )

    def _metrics(self, _: Empty) -> ConsensusMetrics:
        membership = self._store.membership(monotonic_ns())
        height = self._store.last_block().height
        nodes = len(membership.members)
        return ConsensusMetrics(
            leader_id=membership.leader,
            current_term=membership.term,
            total_nodes=nodes,
            quorum_size=nodes // 2 + 1,
            log_index=height,
            commit_index=height,
        )

    def _node_state(self, request: StringValue) -> NodeState:
        """Of the named node, or of this one if no name is given."""
        now_ns = monotonic_ns()
        name = request.value or self._name
        membership = self._store.membership(now_ns)
        member = next((one for one in membership.members if one.name == name), None)
        if member is None:
            raise RefusedCallError(StatusCode.NOT_FOUND, f"no node {name!r}")
        height = self._store.last_block().height
        leads = name == membership.leader
        return NodeState(
            node_id=name,
            role=NodeState.LEADER if leads else NodeState.FOLLOWER,
            current_term=membership.term,
            voted_for=membership.leader,
            commit_index=height,
            last_applied=height,
            last_heartbeat=build_timestamp(time.time_ns() - (now_ns - member.seen_ns)),
            is_healthy=self._is_healthy(member, now_ns),
        )

    def _is_healthy(self, member: Member, now_ns: int) -> bool:
        is_fresh = now_ns - member.seen_ns < LEASE_NS
        return is_fresh and (member.name != self._name or self._committer.failure() is None)
