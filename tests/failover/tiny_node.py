"""A node of a system under test: answers 200 to everything, until SIGTERM.

python tiny_node.py PORT PIDFILE [PEERFILE]: writes its pid when it listens. `/leader` names
what the file PEERFILE holds.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    """Serve one request after the other."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
    pid_file = Path(sys.argv[2])
    fresh = pid_file.with_suffix(".fresh")
    fresh.write_text(str(os.getpid()))
    fresh.replace(pid_file)
    while True:
        connection, _ = listener.accept()
        connection.settimeout(2)
        try:
            asked = connection.recv(65_536).split(b" ")
            body = b"{}"
            if asked[1:2] == [b"/leader"]:
                body = b'{"leader": "%s"}' % Path(sys.argv[3]).read_bytes().strip()
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body)
        except OSError:
            pass
        connection.close()


main()
