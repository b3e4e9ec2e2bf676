"""`headroom capacity search|model`: how much a target carries, by trials or from archived runs."""

from __future__ import annotations

from loadtests.commands import capacity_model, capacity_search
from loadtests.commands.options import Commands

VERBS = (capacity_search, capacity_model)


def add_parser(commands: Commands) -> None:
    """One verb a module."""
    parser = commands.add_parser(
        "capacity",
        help="how much a target carries: search it by trials, or model it from runs",
        description="Finds how much a target carries, by trials or from archived runs.",
        epilog="example: headroom capacity search scenarios/smoke.toml --max-rate 4000",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in VERBS:
        module.add_verb(verbs)
