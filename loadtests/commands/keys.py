"""`headroom keys`: make, authorise, revoke and list the keys of the control channel."""

from __future__ import annotations

import argparse

from analysis.cells import whole_column
from analysis.tables import Table, to_rich, words
from loadtests.commands.options import Commands, add_json
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode

DESCRIPTION = """\
A master that others than its own host reach, and its agents, prove with keys who they are
(ZeroMQ CURVE). On the master's host: headroom keys create master; on each agent's: headroom
keys create agent-1, or whatever it is to be called. Both print a public key; the master's is
authorised on the agents' hosts, theirs on the master's.
"""
EPILOG = """\
example: headroom keys create master
         headroom keys authorise agent-1 PUBLIC_KEY
         headroom keys list
"""


def add_parser(commands: Commands) -> None:
    """One command with four verbs."""
    keys = commands.add_parser(
        "keys",
        help="keys of the control channel between master and agents",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = keys.add_subparsers(dest="verb", metavar="VERB", required=True)
    create = _verb(verbs, "create", "make a key of this host, and print its public half", "agent-1")
    create.add_argument("name", metavar="NAME", help="master, or the agent's name")
    create.add_argument("--replace", action="store_true", help="instead of the one it has")
    create.set_defaults(execute=create_one)
    authorise = _verb(
        verbs, "authorise", "trust the public key of another host", "agent-1 PUBLIC_KEY"
    )
    authorise.add_argument("name", metavar="NAME", help="master, or the agent's name")
    authorise.add_argument("public", metavar="PUBLIC_KEY", help="as `create` printed it there")
    authorise.set_defaults(execute=authorise_one)
    revoke = _verb(verbs, "revoke", "trust it no longer, from a master's next start on", "agent-1")
    revoke.add_argument("name", metavar="NAME", help="master, or the agent's name")
    revoke.set_defaults(execute=revoke_one)
    listing = _verb(verbs, "list", "own and authorised keys, public halves only", "--json")
    add_json(listing)
    listing.set_defaults(execute=list_all)


def _verb(verbs: Commands, name: str, what: str, example: str) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"example: headroom keys {name} {example}",
    )


def create_one(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Make a key; its public half goes to standard output, the rest to whoever reads along."""
    from loadtests.swarm.keys import create_key, keys_folder  # noqa: PLC0415 - loads ZeroMQ

    folder = keys_folder()
    made = create_key(folder, arguments.name, is_replaced=arguments.replace)
    terminal.say(f"{made.name} is in {folder}; on the other hosts, this is its public key:")
    terminal.say(f"headroom keys authorise {made.name} {made.public.hex()}")
    terminal.out.print(made.public.hex(), soft_wrap=True, highlight=False)
    return ExitCode.PASS


def authorise_one(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Trust a key."""
    from loadtests.swarm.keys import authorise, keys_folder  # noqa: PLC0415 - loads ZeroMQ

    is_replaced = authorise(keys_folder(), arguments.name, arguments.public)
    instead = ", instead of another key" if is_replaced else ""
    terminal.say(f"{arguments.name} is authorised{instead}")
    return ExitCode.PASS


def revoke_one(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Trust a key no longer."""
    from loadtests.swarm.keys import keys_folder, revoke  # noqa: PLC0415 - loads ZeroMQ

    revoke(keys_folder(), arguments.name)
    terminal.say(f"{arguments.name} is not authorised any more, once running masters have ended")
    return ExitCode.PASS


def list_all(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Public halves, own ones first."""
    from loadtests.swarm.keys import (  # noqa: PLC0415 - loads ZeroMQ
        keys_folder,
        load_authorised,
        load_own_keys,
    )

    folder = keys_folder()
    rows = [(key.name, "own", key.public.hex()) for key in load_own_keys(folder)]
    rows += [(name, "authorised", key.hex()) for name, key in load_authorised(folder).items()]
    if arguments.json:
        terminal.json([{"name": name, "kind": kind, "public": key} for name, kind, key in rows])
        return ExitCode.PASS
    if not rows:
        terminal.say(f"no keys in {folder}")
        return ExitCode.PASS
    table = Table(
        name="keys",
        title=f"Keys in {folder}",
        columns=(whole_column("name"), whole_column("kind"), whole_column("public key")),
        rows=tuple(tuple(words(cell) for cell in row) for row in rows),
    )
    terminal.out.print(to_rich(table))
    return ExitCode.PASS
