"""Ports for the programs of an embedded system: nobody's, and nobody gets them meanwhile."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests.commands import embedded
from loadtests.commands.embedded import free_ports


def test_no_connection_is_given_one_of_them() -> None:
    """The kernel takes a connection's own port from a range of its own."""
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert not any(first <= port <= last for port in ports)
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))


def test_a_port_that_is_taken_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here connections begin four ports above the lowest, of which one has a listener."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        lowest = taken.getsockname()[1] - 1
        file = tmp_path / "range"
        file.write_text(f"{lowest + 4}\t60999\n")
        monkeypatch.setattr(embedded, "_LOWEST_PORT", lowest)
        monkeypatch.setattr(embedded, "_PORTS_OF_CONNECTIONS", file)
        assert taken.getsockname()[1] not in free_ports(2)


def test_where_connections_may_have_any_port_there_are_ports_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some hosts have widened the range down to 1024."""
    file = tmp_path / "range"
    file.write_text("1024\t65535\n")
    monkeypatch.setattr(embedded, "_PORTS_OF_CONNECTIONS", file)
    assert len(set(free_ports(8))) == 8
