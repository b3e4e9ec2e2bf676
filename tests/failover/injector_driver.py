"""A master for the injector: hands it an order, T0 and good seconds, prints what it says.

python injector_driver.py ORDER_FILE SECONDS: as a real master it is the injector's parent and holds
its control pipe; so killing it is killing the harness. Prints the injector's lines as they come.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from loadtests.clock import NS_PER_S
from loadtests.failover.messages import MODULE, Began, Second, encode_line


def main() -> int:
    """Drive one failover for so many seconds."""
    order = os.open(sys.argv[1], os.O_RDONLY)
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable, "-m", MODULE,
            "--order-fd", str(order), "--control-fd", str(reading), "--parent", str(os.getpid()),
        ],
        pass_fds=(order, reading),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    os.close(reading)
    assert process.stdout is not None
    stdout = process.stdout
    ready = threading.Event()

    def listen() -> None:
        for line in stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            ready.set()
        ready.set()

    listener = threading.Thread(target=listen)
    listener.start()
    ready.wait()
    began_ns = time.monotonic_ns()
    try:
        os.write(writing, encode_line(Began(t0_ns=began_ns, t0_unix_ns=time.time_ns())))
        number = 0
        while time.monotonic_ns() - began_ns < float(sys.argv[2]) * NS_PER_S:
            number += 1  # seconds of a run in a hurry: the target is always well
            second = Second(until_ns=number * NS_PER_S, holds=Path(sys.argv[1]).exists(), reason="")
            os.write(writing, encode_line(second))
            time.sleep(0.05)
    except BrokenPipeError:
        pass
    os.close(writing)
    listener.join()
    return process.wait()


sys.exit(main())
