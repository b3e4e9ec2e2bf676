"""`headroom failover undo|show`: what an earlier failover left in force, and its removal."""

from __future__ import annotations

import argparse

from loadtests.commands.options import Commands, add_json
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.failover.ledger import Ledger, ledger_folder, strikes_in
from loadtests.failover.striking import Told, repair_of, undo_strikes
from loadtests.record.fault_events import FaultEvent


def add_parser(commands: Commands) -> None:
    """Both verbs."""
    parser = commands.add_parser(
        "failover",
        help="undo faults that a killed run has left",
        description="Faults are written to an undo ledger before they are applied. A run undoes "
        "its own, however it ends; the next run, or this command, undoes what one that was "
        "killed has left, and proves it gone.",
        epilog="example: headroom failover undo",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    undoing = verbs.add_parser(
        "undo",
        help="undo what is left and prove it gone",
        description="Undoes every fault of the ledger and looks whether it is gone. What cannot "
        "be undone stays in the ledger, is printed with the command that repairs it, and is "
        "exit code 5.",
        epilog="example: headroom failover undo",
    )
    undoing.set_defaults(execute=undo)
    showing = verbs.add_parser(
        "show",
        help="print what may still be in force",
        description="Prints the undo ledger, also while a failover is under way; changes nothing.",
        epilog="example: headroom failover show --json",
    )
    add_json(showing)
    showing.set_defaults(execute=show)


def undo(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Undo all that is left; HARNESS while something stays."""
    del arguments

    def tell(told: Told) -> None:
        if told.kind is FaultEvent.UNDO_FAILED:
            terminal.error(f"{told.text}\n  repair it by hand: {told.repair}")
        elif told.kind is FaultEvent.GONE:
            terminal.say(told.text)

    with Ledger(ledger_folder()) as ledger:
        left = ledger.left
        wrong = undo_strikes(left, ledger, tell)
        if wrong:
            terminal.error(f"{len(wrong)} of {len(left)} faults stay in {ledger.path}")
            return ExitCode.HARNESS
    terminal.say(f"undone: {len(left)}" if left else "nothing to undo")
    return ExitCode.PASS


def show(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """The ledger, the newest first, also while a failover is under way."""
    left = strikes_in(ledger_folder())
    if arguments.json:
        terminal.json([{"strike": one, "repair": repair_of(one)} for one in left])
        return ExitCode.PASS
    for one in left:
        terminal.out.print(f"{one}; by hand: {repair_of(one)}", soft_wrap=True)
    if not left:
        terminal.say("nothing is left in force")
    return ExitCode.PASS
