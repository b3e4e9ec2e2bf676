"""The injector's process: one a run, on the master's host, started by the master.

    python -m loadtests.failover.process --order-fd N --control-fd N --parent PID

Reads an `InjectOrder`, takes the lock, undoes what an earlier harness left, and says that
it is ready; then it injects as `injector.py` has it, from the master's T0 on. A process of
its own, because faults take threads and blocking calls, which a gevent process has not, and
because it must survive its master: when the control pipe closes, on SIGTERM (which the
kernel also sends when the parent dies) and after an error of its own it undoes everything
and ends. SIGINT is the master's to act on.

Exit code 5 when something could not be undone.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from loadtests.errors import ExitCode, HarnessError, HeadroomError, TargetError
from loadtests.failover.injector import Injector, SafeLedger, Say
from loadtests.failover.ledger import Ledger, ledger_folder
from loadtests.failover.messages import (
    Ended,
    Happened,
    InjectOrder,
    Ready,
    Refused,
    Second,
    ToMaster,
    decode_order,
    decode_to_injector,
    encode_line,
)
from loadtests.failover.striking import Told, undo_strikes
from loadtests.parentage import lives_with
from loadtests.record.event import Event, EventValue
from loadtests.record.fault_events import INJECTOR

TICK_S: Final = 0.01
_READ_BYTES: Final = 65_536


class Mouth:
    """Lines to the master from any thread; nobody to hear them is no reason to stop undoing."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def say(self, message: ToMaster) -> None:
        """Write one line, whole."""
        left = memoryview(encode_line(message))
        with self._turn:
            try:
                while left:
                    left = left[os.write(sys.stdout.fileno(), left) :]
            except OSError:
                return


class Control:
    """The master's lines; `reason` says why there will be no more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self.reason = ""

    def lines(self, wait_s: float) -> list[bytes]:
        """Lines that have come, after at most so long; sets `reason` at the end."""
        if not select.select([self._descriptor], [], [], wait_s)[0]:
            return []
        data = os.read(self._descriptor, _READ_BYTES)
        if not data:
            self.reason = self.reason or "the run has ended"
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return lines

    def on_signal(self, number: int, _frame: object) -> None:
        """End in order."""
        self.reason = self.reason or f"ended by {signal.Signals(number).name}"


def take_ledger(folder: Path, say: Say) -> Ledger:
    """The ledger, locked and with nothing left in it; HarnessError when something stays."""
    ledger = SafeLedger(folder)

    def tell(told: Told) -> None:
        fields: dict[str, EventValue] = {"node": told.strike.node.name}
        if told.repair:
            fields["repair"] = told.repair
        event = Event(
            at_unix_ns=time.time_ns(),
            kind=f"left_{told.kind.value}",  # not of this run: its measures leave it alone
            who=INJECTOR,
            text=f"left by an earlier run: {told.text}",
            fields=fields,
        )
        say(Happened(event=event))

    wrong = undo_strikes(ledger.left, ledger, tell)
    if wrong:
        ledger.close()
        raise HarnessError(
            where=str(ledger.path),
            seen=f"faults of an earlier run that cannot be undone: {'; '.join(wrong)}",
            expected="`headroom failover undo` to succeed first",
        )
    return ledger


def _hear(
    line: bytes, injector: Injector | None, order: InjectOrder, ledger: Ledger, say: Say
) -> Injector | None:
    """One line of the master's: T0 makes the injector, a second is shown to it."""
    message = decode_to_injector(line)
    if isinstance(message, Second):
        if injector is not None:
            injector.observe(message)
        return injector
    t0_ns, t0_unix_ns = message.t0_ns, message.t0_unix_ns
    if injector is not None:
        injector.move(t0_ns, t0_unix_ns)
        return injector
    made = Injector(order.failover, order.seed, ledger, say, t0_ns=t0_ns, t0_unix_ns=t0_unix_ns)
    made.predict()
    return made


def inject(order: InjectOrder, control: Control, mouth: Mouth) -> str:
    """From T0 to the end; what could not be undone."""
    folder = Path(order.folder) if order.folder else ledger_folder()
    with take_ledger(folder, mouth.say) as ledger:
        mouth.say(Ready())
        injector: Injector | None = None
        try:
            while not control.reason:
                for line in control.lines(TICK_S):
                    injector = _hear(line, injector, order, ledger, mouth.say)
                if injector is not None:
                    injector.tick()
        except (HeadroomError, msgspec.MsgspecError) as error:
            control.reason = str(error)
        except BaseException as error:
            control.reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            wrong = "" if injector is None else injector.finish(control.reason)
        return wrong


def _prepare(parent_pid: int, control: Control) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, control.on_signal)
    signal.signal(signal.SIGHUP, control.on_signal)
    if not lives_with(parent_pid, signal.SIGTERM):
        control.reason = "the master has ended"


def main() -> int:
    """Read the order and inject."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name if __spec__ else ''}")
    parser.add_argument("--order-fd", type=int, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    control, mouth = Control(options.control_fd), Mouth()
    _prepare(options.parent, control)
    with os.fdopen(options.order_fd, "rb") as file:
        order = decode_order(file.read())
    try:
        wrong = inject(order, control, mouth)
    except (HarnessError, TargetError) as error:
        is_guard = isinstance(error, TargetError)
        mouth.say(
            Refused(where=error.where, seen=error.seen, expected=error.expected, is_guard=is_guard)
        )
        return error.exit_code
    mouth.say(Ended(wrong=wrong))
    return ExitCode.HARNESS if wrong else ExitCode.PASS


if __name__ == "__main__":
    sys.exit(main())
