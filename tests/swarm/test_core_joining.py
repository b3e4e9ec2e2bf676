"""Who may join: the same code on both sides, and the name of one's own key."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import pytest
from simulation import HOST, TIMING, good_plan

from loadtests.plan.codec import encode_plan
from loadtests.record import facts
from loadtests.record.facts import LOCUSTFILE, code_digests, locustfile_digest
from loadtests.swarm.actions import Send
from loadtests.swarm.lobby import Lobby, differing_code
from loadtests.swarm.membership import Member
from loadtests.swarm.messages import PROTOCOL, Hello, Refuse, decode_to_master, encode_message
from loadtests.swarm.outbox import Outbox
from loadtests.swarm.run_state import RunSetup

CODE = {"loadtests": "a", "loadtests/engine": "b", "loadtests/swarm": "c"}


def hello(agent: str = "agent-1", **changes: object) -> Hello:
    """An agent's first message."""
    made = Hello(
        protocol=PROTOCOL,
        agent=agent,
        incarnation="i",
        host=HOST,
        boot_id="",
        engines=1,
        version="1",
        versions={},
        code=dict(CODE),
    )
    return msgspec.structs.replace(made, **changes)


def join(peer: str, message: Hello, *, is_named_by_key: bool = False) -> tuple[bool, str]:
    """Whether it joined, and what was said of it."""
    plan = good_plan()
    setup = RunSetup(
        run_id="run",
        plan=plan,
        plan_bytes=encode_plan(plan),
        agents=2,
        version="1",
        code=CODE,
        is_named_by_key=is_named_by_key,
        boot_id="master",
        unix_minus_monotonic_ns=0,
        join_wait_ns=1,
    )
    members: dict[str, Member] = {}
    out = Outbox(setup, TIMING)
    lobby = Lobby(setup, members, out, TIMING.repeat_ns)
    joined = lobby.hello(peer, message, 0, is_frozen=False)
    said = [
        action.message.reason if isinstance(action.message, Refuse) else ""
        for action in out.take()
        if isinstance(action, Send)
    ]
    return joined is not None, " ".join(said)


@pytest.mark.parametrize("room", sorted(CODE))
def test_other_code_is_refused_and_the_room_named(room: str) -> None:
    """Same version, one file edited on one host: the run would be of two programs."""
    is_in, said = join("agent-1", hello(code={**CODE, room: "x"}))
    assert not is_in
    assert f"differs from the master's in {room}:" in said


def test_no_code_at_all_is_other_code() -> None:
    """What an agent does not say is not the same."""
    is_in, said = join("agent-1", hello(code={}))
    assert not is_in
    assert "in loadtests, loadtests/engine, loadtests/swarm: install the same on both" in said
    assert join("agent-1", hello())[0]


def test_locustfiles_are_compared_where_both_have_one() -> None:
    """`headroom worker` has none, and may still join a Locust master."""
    ours = {**CODE, LOCUSTFILE: "1"}
    assert differing_code(ours, CODE) == []
    assert differing_code(CODE, ours) == []
    assert differing_code(ours, {**CODE, LOCUSTFILE: "2"}) == [LOCUSTFILE]


def test_an_agent_is_called_as_its_key() -> None:
    """Without keys any name will do; with them only one's own is heard."""
    assert join("some-peer", hello())[0]
    assert join("agent-1", hello(), is_named_by_key=True)[0]
    assert not join("agent-2", hello(), is_named_by_key=True)[0]


def test_a_protocol_before_codes_is_told_that_it_is_old() -> None:
    """A first message without digests is still read, so that its sender hears why."""
    body = msgspec.msgpack.decode(encode_message(hello())[4:])
    del body["code"]
    old = msgspec.msgpack.encode({**body, "protocol": 3})
    checksum = zlib.crc32(old).to_bytes(4, "big")
    message = decode_to_master(checksum + old)
    assert isinstance(message, Hello)
    assert f"protocol {PROTOCOL}" in join("agent-1", message)[1]


def test_every_room_that_an_agent_runs_has_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One changed byte in any of them changes its own digest, and no other."""
    package = Path(facts.__file__).parents[1]
    rooms = ("engine", "plan", "record", "swarm")
    for room in rooms:
        (tmp_path / room).mkdir()
        (tmp_path / room / "one.py").write_text(f"# {room}\n", encoding="utf-8")
    for name in ("clock.py", "compiled.py", "errors.py", "parentage.py"):
        (tmp_path / name).write_bytes((package / name).read_bytes())
    monkeypatch.setattr(facts, "__file__", str(tmp_path / "record" / "facts.py"))

    def digests() -> dict[str, str]:
        facts.read_code.cache_clear()
        return code_digests()

    before = digests()
    assert len(before) == len(rooms) + 1
    for room in rooms:
        (tmp_path / room / "one.py").write_text("# changed\n", encoding="utf-8")
        after = digests()
        changed = {name for name in after if after[name] != before[name]}
        assert changed == {f"{tmp_path.name}/{room}"}
        before = after
    facts.read_code.cache_clear()


def test_a_locustfiles_digest_is_of_its_text(tmp_path: Path) -> None:
    """Folders may differ between hosts, texts may not."""
    paths = []
    for folder, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "locustfile.py")
        paths[-1].write_text(text, encoding="utf-8")
    one, same, other = (locustfile_digest([path])[LOCUSTFILE] for path in paths)
    assert one == same != other
