"""Real clusters: processes, sockets, kills."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cluster_clients import TRANSACTIONS, ask, is_running, post, wait_until

from loadtests.clock import NS_PER_MS
from loadtests.cluster.behaviour import parse_behaviour
from loadtests.cluster.launch import DISCLAIMER, Cluster, Node
from loadtests.errors import HarnessError, ScenarioError

pytestmark = pytest.mark.system


def raw(node: Node, data: bytes, *, half_close: bool = False) -> bytes:
    """What a node says to these bytes until it closes."""
    host, port = node.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(data)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        said = b""
        while part := client.recv(65_536):
            said += part
        return said


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.start(nodes=3) as started:
        started.wait_ready(20)
        yield started


def test_acknowledged_is_readable_from_every_node(cluster: Cluster) -> None:
    """A 201 from one node means that every node can read the transaction back, amount exact."""
    for number, node in enumerate(cluster.nodes):
        status, said = post(node, f"shared {number}/ü", 0.1 + number)
        assert (status, said["status"], said["amount"]) == (201, "PROCESSED", 0.1 + number)
        for reader in cluster.nodes:
            found = ask(reader, "GET", f"{TRANSACTIONS}/shared%20{number}%2F%C3%BC")
            assert found == (200, said)


def test_an_id_is_taken_once_whoever_is_asked(cluster: Cluster) -> None:
    """The same id again is 409 on every node, and the first amount stays."""
    assert post(cluster.nodes[0], "once", 1)[0] == 201
    for node in cluster.nodes:
        status, said = post(node, "once", 2)
        assert (status, said["status"]) == (409, "FAILED")
    assert ask(cluster.nodes[1], "GET", f"{TRANSACTIONS}/once")[1]["amount"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"transactionId": "a"},
        {"amount": 1},
        {"transactionId": "", "amount": 1},
        {"transactionId": "x" * 129, "amount": 1},
        {"transactionId": "nul\0", "amount": 1},
        {"transactionId": 5, "amount": 1},
        {"transactionId": "a", "amount": "1"},
        {"transactionId": "a", "amount": -1},
        {"transactionId": "a", "amount": 10**30},
        [1],
    ],
)
def test_bad_transactions_are_400(cluster: Cluster, body: object) -> None:
    """A body that is no transaction is refused with the reason, and nothing is stored."""
    status, said = ask(cluster.nodes[0], "POST", TRANSACTIONS, body)
    assert status == 400
    assert said["message"]
    assert ask(cluster.nodes[0], "GET", f"{TRANSACTIONS}/a")[0] == 404


def test_batch_counts_what_was_new(cluster: Cluster) -> None:
    """A batch stores its new transactions once and counts them; an empty or long one is 400."""
    node, path = cluster.nodes[0], f"{TRANSACTIONS}/batch"

    def batch(*ids: str) -> tuple[int, Any]:
        rows = [{"transactionId": id_, "amount": 1} for id_ in ids]
        return ask(node, "POST", path, {"transactions": rows})

    status, said = batch("b1", "b2", "b2")
    assert (status, said["requestedCount"], said["processedCount"]) == (200, 3, 2)
    assert said["status"] == "PARTIAL"
    assert batch("b3")[1]["status"] == "PROCESSED"
    assert batch("b1", "b3")[1]["status"] == "FAILED"
    assert batch()[0] == 400
    assert batch(*map(str, range(1_001)))[0] == 400


def test_every_path_answers(cluster: Cluster) -> None:
    """All paths of the interface answer with their members; wrong ones are 404, 405, 400."""
    node = cluster.nodes[0]
    post(node, "for the block")
    expected = {
        "/api/v11/health": {"status", "version", "uptimeSeconds", "totalRequests", "platform"},
        "/api/v11/info": {"name", "version", "javaVersion", "framework", "osName", "osArch"},
        f"{TRANSACTIONS}/stats": {"totalProcessed", "currentThroughputMeasurement"},
        f"{TRANSACTIONS}?limit=2&offset=0": {"transactions", "limit", "offset", "total"},
        "/api/v11/blockchain/latest": {"height", "hash", "previousHash", "transactionCount"},
        "/api/v11/blockchain/blocks/1": {"height", "hash", "previousHash", "transactionCount"},
        "/api/v11/blockchain/validators": {"validators"},
        "/api/v11/consensus/status": {"algorithm", "nodeState", "currentTerm", "leaderNodeId"},
        "/api/v11/performance?iterations=10": {"iterations", "transactionsPerSecond"},
    }
    for path, members in expected.items():
        status, said = ask(node, "GET", path)
        assert status == 200, path
        assert members <= set(said), path
    assert ask(node, "GET", "/api/v11/info")[1]["version"].endswith("-embedded")
    assert "not Aurigraph" in ask(node, "GET", "/api/v11/health")[1]["platform"]
    for status, method, path in [
        (404, "GET", "/"),
        (404, "GET", "/api/v11/blockchain/blocks/999999999"),
        (404, "GET", "/api/v11/blockchain/blocks/"),
        (404, "GET", f"{TRANSACTIONS}/unknown"),
        (400, "GET", "/api/v11/blockchain/blocks/x"),
        (400, "GET", f"{TRANSACTIONS}?limit=0"),
        (400, "GET", f"{TRANSACTIONS}?offset=x"),
        (400, "GET", "/api/v11/performance?iterations=99999999"),
        (400, "GET", f"{TRANSACTIONS}/%ff"),
        (405, "DELETE", TRANSACTIONS),
        (405, "POST", "/q/health"),
    ]:
        assert ask(node, method, path)[0] == status, path


def test_health_lists_its_checks(cluster: Cluster) -> None:
    """Health is MicroProfile's: a status, and each check with its own."""
    for path in ("/q/health", "/q/health/live", "/q/health/ready"):
        status, said = ask(cluster.nodes[0], "GET", path)
        assert (status, said["status"]) == (200, "UP")
        assert said["checks"]
        assert {check["status"] for check in said["checks"]} == {"UP"}
    names = [check["name"] for check in ask(cluster.nodes[0], "GET", "/q/health")[1]["checks"]]
    assert "Database connections health check" in names


def test_one_leader_for_all(cluster: Cluster) -> None:
    """All nodes name the same leader and term, and exactly that node calls itself the leader."""
    said = [ask(node, "GET", "/api/v11/consensus/status")[1] for node in cluster.nodes]
    assert len({(one["leaderNodeId"], one["currentTerm"]) for one in said}) == 1
    assert [one["nodeId"] for one in said if one["nodeState"] == "LEADER"] == [
        said[0]["leaderNodeId"]
    ]
    validators = ask(cluster.nodes[0], "GET", "/api/v11/blockchain/validators")[1]["validators"]
    assert [one["url"] for one in validators] == [node.url for node in cluster.nodes]
    assert [one["role"] for one in validators].count("LEADER") == 1


def test_scrape_counts_every_answer(cluster: Cluster) -> None:
    """The scrape holds exactly the answers that have left, by method, status and template."""
    node = cluster.nodes[2]

    def count(line: str) -> float:
        text = str(ask(node, "GET", "/q/metrics")[1])
        return sum(float(one.split()[-1]) for one in text.splitlines() if one.startswith(line))

    hits = (
        'http_server_requests_seconds_count{method="GET",outcome="CLIENT_ERROR",'
        f'status="404",uri="{TRANSACTIONS}/{{id}}"}}'
    )
    before = count(hits)
    for number in range(7):
        ask(node, "GET", f"{TRANSACTIONS}/none-{number}")
    assert count(hits) == before + 7


def test_hostile_clients_do_not_harm(cluster: Cluster) -> None:
    """Garbage, huge heads, lying lengths and half-closes get an answer; the node goes on."""
    node = cluster.nodes[1]
    assert raw(node, b"\x00\xff" * 500).startswith(b"HTTP/1.1 400 ")
    assert raw(node, b"GET / HTTP/1.1\r\nX: " + b"a" * 500_000).startswith(b"HTTP/1.1 431 ")
    post_head = f"POST {TRANSACTIONS} HTTP/1.1\r\nHost: x\r\n".encode()
    said = raw(node, post_head + b"Content-Length: 9000000\r\n\r\n" + b"a" * 2_000_000)
    assert said.startswith(b"HTTP/1.1 413 ")
    body = b'{"transactionId":"half-closed","amount":3}'
    said = raw(node, post_head + b"Content-Length: %d\r\n\r\n" % len(body) + body, half_close=True)
    assert said.startswith(b"HTTP/1.1 201 ")
    assert raw(node, b"GET /api/v11/in", half_close=True) == b""
    assert ask(node, "GET", "/q/health/ready")[0] == 200


def test_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() -> None:
    """After kill -9 of the leader a follower leads in a later term; all 201s are still there."""
    with Cluster.start(nodes=2) as pair:
        pair.wait_ready(20)
        before = ask(pair.nodes[0], "GET", "/api/v11/consensus/status")[1]
        leader = next(node for node in pair.nodes if node.name == before["leaderNodeId"])
        follower = next(node for node in pair.nodes if node is not leader)
        for number in range(50):
            assert post(leader, f"tx-{number}")[0] == 201
        os.kill(leader.pid, signal.SIGKILL)

        def taken_over() -> bool:
            said = ask(follower, "GET", "/api/v11/consensus/status")[1]
            return bool(said["leaderNodeId"] == follower.name)

        wait_until(taken_over)
        after = ask(follower, "GET", "/api/v11/consensus/status")[1]
        assert after["currentTerm"] == before["currentTerm"] + 1
        for number in range(50):
            assert ask(follower, "GET", f"{TRANSACTIONS}/tx-{number}")[0] == 200
        assert post(follower, "after")[0] == 201
        assert [line.split()[0] for line in pair.dead()] == [leader.name]


def test_latency_stall_and_truth(tmp_path: Path) -> None:
    """No answer leaves before its latency or inside a stall, and the log says when it left."""
    behaviour = parse_behaviour("latency=fixed:20ms,stall=200ms:400ms")
    with Cluster.start(nodes=1, behaviours=behaviour, ground_truth=tmp_path) as slow:
        slow.wait_ready(20)
        for _ in range(20):
            assert ask(slow.nodes[0], "GET", "/api/v11/info")[0] == 200
    with (tmp_path / "node-1.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"] == "/api/v11/info"]
    assert len(rows) == 20
    took_ms = [(int(row["replied_ns"]) - int(row["received_ns"])) / NS_PER_MS for row in rows]
    assert min(took_ms) >= 20
    assert sum(one > 100 for one in took_ms) == 1
    # The stall's clock starts with the first of them.
    first_ns = int(rows[0]["received_ns"])
    # A busy machine may send late what was due before the stall.
    due_ms = [(int(row["received_ns"]) - first_ns) / NS_PER_MS + 20 for row in rows]
    left_ms = [(int(row["replied_ns"]) - first_ns) / NS_PER_MS for row in rows]
    held = [left for due, left in zip(due_ms, left_ms, strict=True) if 200 <= due < 600]
    assert held
    assert min(held) >= 600


def test_limits_and_errors_on_purpose() -> None:
    """A limiter answers 429 with Retry-After, an error ratio of 1 answers all with its status."""
    behaviours = {1: parse_behaviour("max-rate=10"), 2: parse_behaviour("errors=1:500")}
    with Cluster.start(nodes=2, behaviours=behaviours) as pair:
        statuses = [ask(pair.nodes[0], "GET", "/api/v11/info")[0] for _ in range(10)]
        assert 429 in statuses
        assert 200 in statuses
        assert post(pair.nodes[1], "refused")[0] == 500
        assert ask(pair.nodes[1], "GET", "/q/health")[0] == 200


def test_slow_accept_lets_in_one_by_one() -> None:
    """Connections to a node that accepts slowly are served in turn, a gap apart."""
    with Cluster.start(nodes=1, behaviours=parse_behaviour("slow-accept=50ms")) as slow:
        began_s = time.monotonic()
        for _ in range(5):
            assert ask(slow.nodes[0], "GET", "/q/health/live")[0] == 200
        assert time.monotonic() - began_s >= 4 * 0.05


def test_stop_answers_what_was_asked_and_cleans_up() -> None:
    """SIGTERM answers requests under way; then processes, ports and temporary files are gone."""
    with Cluster.start(nodes=1, behaviours=parse_behaviour("latency=fixed:500ms")) as slow:
        node, folder = slow.nodes[0], slow.store.parent
        host, port = node.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(b"GET /api/v11/info HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.1)  # the request is on its way into the node
            slow.stop()
            said = client.recv(65_536)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in said
        assert not folder.exists()
        assert not is_running(node.pid)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=1)


def test_a_given_store_is_kept_and_used_again(tmp_path: Path) -> None:
    """A ledger that the caller named outlives the cluster and is read by the next one."""
    for turn in range(2):
        with Cluster.start(nodes=1, store=tmp_path / "ledger.db") as one:
            one.wait_ready(20)
            assert post(one.nodes[0], f"turn-{turn}")[0] == 201
            assert ask(one.nodes[0], "GET", f"{TRANSACTIONS}/turn-0")[0] == 200


def test_busy_port_is_named() -> None:
    """A port in use is an error that names it, and nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HarnessError, match=f"port {port} to be free"):
            Cluster.start(nodes=1, rest_port=port)
        with pytest.raises(HarnessError, match=f"gRPC .*port {port} to be free"):
            Cluster.start(nodes=1, grpc_port=port)


def test_wrong_options_start_nothing() -> None:
    """Options that cannot be are all told at once."""
    with pytest.raises(ScenarioError) as caught:
        Cluster.start(
            nodes=0, rest_port=70_000, grpc_port=70_000, behaviours={5: parse_behaviour("")}
        )
    assert len(caught.value.mistakes) == 4
    with pytest.raises(ScenarioError, match="9003 to 9006, which REST has"):
        Cluster.start(nodes=4, rest_port=9003, grpc_port=9004)
    with pytest.raises(HarnessError, match="loopback"):
        Cluster.start(nodes=1, host="0.0.0.0")


def test_nodes_die_with_a_killed_parent() -> None:
    """Kill -9 of the process that started a cluster ends its nodes, from a thread or not."""
    for starter in ("start()", "t = threading.Thread(target=start); t.start(); t.join()"):
        script = (
            "import threading, time\n"
            "from loadtests.cluster.launch import Cluster\n"
            "kept = []\n"
            "def start():\n"
            "    kept.append(Cluster.start(nodes=2))\n"
            f"{starter}\n"
            "print(*(node.pid for node in kept[0].nodes), flush=True)\n"
            "time.sleep(60)\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        try:
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            assert len(pids) == 2
            assert all(map(is_running, pids))
        finally:
            parent.kill()
            parent.wait()
            parent.stdout.close()
        wait_until(lambda pids=pids: not any(map(is_running, pids)))  # type: ignore[misc]


def test_serve_says_what_it_is_and_stops_on_a_signal() -> None:
    """The command prints the disclaimer and a line per node, and ends with 0 on SIGTERM."""
    script = (
        "import sys\n"
        "from loadtests.cluster.foreground import serve\n"
        "from loadtests.cluster.launch import Cluster\n"
        "sys.exit(serve(lambda: Cluster.start(nodes=2)))\n"
    )
    command = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    try:
        said = StringIO()
        for line in command.stdout:
            said.write(line)
            if line.startswith("stop with"):
                command.send_signal(signal.SIGTERM)
        assert command.wait(20) == 0
    finally:
        command.kill()
        command.wait()
        command.stdout.close()
    assert DISCLAIMER in said.getvalue()
    assert said.getvalue().count("/api/v11") == 2
    assert said.getvalue().count("gRPC http://127.0.0.1:") == 2
