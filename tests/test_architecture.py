"""The map of rooms is a law: data flows one way, and a test reads every import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# room -> rooms that it may import besides itself. Longest prefix wins.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "loadtests.errors": frozenset(),
    "loadtests.clock": frozenset(),
    "loadtests.compiled": frozenset(),
    "loadtests.parentage": frozenset(),
    "loadtests.record": frozenset({"loadtests.errors", "loadtests.clock", "loadtests.compiled"}),
    "loadtests.plan": frozenset({"loadtests.errors", "loadtests.clock", "loadtests.record"}),
    "loadtests.engine": frozenset(
        {
            "loadtests.errors",
            "loadtests.clock",
            "loadtests.compiled",
            "loadtests.parentage",
            "loadtests.record",
            "loadtests.plan",
        }
    ),
    "loadtests.swarm": frozenset(
        {
            "loadtests.errors",
            "loadtests.clock",
            "loadtests.parentage",
            "loadtests.record",
            "loadtests.plan",
            "loadtests.engine.messages",
            "loadtests.failover.messages",
            "loadtests.scrape.order",
        }
    ),
    "loadtests.scrape": frozenset(
        {
            "loadtests.errors",
            "loadtests.clock",
            "loadtests.parentage",
            "loadtests.record",
            "loadtests.plan",
            "loadtests.engine.tls",
        }
    ),
    "loadtests.failover": frozenset(
        {
            "loadtests.errors",
            "loadtests.clock",
            "loadtests.parentage",
            "loadtests.record",
            "loadtests.plan",
        }
    ),
    "loadtests.audit": frozenset(
        {
            "loadtests.errors",
            "loadtests.clock",
            "loadtests.record",
            "loadtests.plan",
            "loadtests.engine.tls",
        }
    ),
    "loadtests.nightly": frozenset(
        {"loadtests.errors", "loadtests.clock", "loadtests.record", "loadtests.plan"}
    ),
    "loadtests.cluster": frozenset({"loadtests.errors", "loadtests.clock", "loadtests.parentage"}),
    "analysis": frozenset({"loadtests.record", "loadtests.plan", "loadtests.errors"}),
}
# The two front doors put the rooms together; nobody may import them.
COMPOSITION_ROOTS = ("loadtests.cli", "loadtests.commands", "loadtests.locustfile")
PATCHES_ON_IMPORT = frozenset({"locust", "gevent", "zmq"})


def module_name(path: Path) -> str:
    """Dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> list[Path]:
    """Every module of the product."""
    return sorted([*ROOT.glob("loadtests/**/*.py"), *ROOT.glob("analysis/**/*.py")])


MODULES = frozenset(module_name(path) for path in sources())


def imports_of(path: Path) -> set[str]:
    """All modules that a file imports; `from a import b` means a.b where that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import hides the room"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = names & MODULES
            found |= submodules if submodules == names else submodules | {node.module}
    return found


def is_within(name: str, rooms: frozenset[str] | tuple[str, ...]) -> bool:
    """True if a dotted name is one of the rooms or lies in one."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def room_of(name: str) -> str | None:
    """The room that owns a module, None for packages and composition roots."""
    rooms = [room for room in MAY_IMPORT if name == room or name.startswith(f"{room}.")]
    return max(rooms, key=len, default=None)


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    """A room imports only the rooms that the map allows it."""
    name = module_name(path)
    room = room_of(name)
    if room is None:
        assert name in {"loadtests", "analysis"} or is_within(name, COMPOSITION_ROOTS), (
            f"{name} belongs to no room"
        )
        return
    allowed = frozenset({room}) | MAY_IMPORT[room]
    for imported in imports_of(path):
        if imported in {"loadtests", "analysis"}:
            continue
        if is_within(imported, ("loadtests", "analysis")):
            assert is_within(imported, allowed), f"{name} imports {imported}"


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_nobody_imports_a_front_door(path: Path) -> None:
    """Command line and locustfile are leaves."""
    if is_within(module_name(path), COMPOSITION_ROOTS):
        return
    for imported in imports_of(path):
        assert not is_within(imported, COMPOSITION_ROOTS), f"{path} imports {imported}"


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_only_the_swarm_imports_locust(path: Path) -> None:
    """Locust patches the standard library unless told not to, so one room alone imports it."""
    name = module_name(path)
    if is_within(name, ("loadtests.swarm", "loadtests.locustfile")):
        return
    for imported in imports_of(path):
        assert imported.split(".")[0] not in PATCHES_ON_IMPORT, f"{name} imports {imported}"


def test_no_module_has_a_name_that_says_nothing() -> None:
    """Names say what a module owns."""
    empty = {"utils", "util", "helpers", "helper", "common", "base", "misc", "tools"}
    assert not [str(path) for path in sources() if path.stem in empty]


def test_every_module_opens_with_its_purpose() -> None:
    """A module opens with a paragraph."""
    for path in sources():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
