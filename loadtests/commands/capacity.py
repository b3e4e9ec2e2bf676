"""`headroom capacity`: how much a target carries."""

from __future__ import annotations

from loadtests.commands import capacity_model
from loadtests.commands.options import Commands


def add_parser(commands: Commands) -> None:
    """All verbs."""
    parser = commands.add_parser(
        "capacity",
        help="how much a target carries",
        description="What a target carries, from its runs.",
        epilog="example: headroom capacity model latest",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    capacity_model.add_verb(verbs)
