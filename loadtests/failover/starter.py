"""The start command of a stand's nodes: `python -m loadtests.failover.starter SOCKET NAME`.

Asks the supervisor, and does not mind asking again. Imports nothing heavy: it runs while a
node is missing.
"""

from __future__ import annotations

import socket
import sys

_TIMEOUT_S = 5.0


def main() -> int:
    """0 when the program runs."""
    _, path, name = sys.argv
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(path)
            connection.sendall(f"start {name}\n".encode())
            answer = connection.recv(4096).decode(errors="replace").strip()
    except OSError as error:
        answer = str(error)
    if answer == "ok":
        return 0
    sys.stderr.write(f"{answer}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
