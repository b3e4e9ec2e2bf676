"""Keys of the control channel: how they are kept, and whom they let in."""

from __future__ import annotations

import json
import socket
import threading
from argparse import Namespace
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import gevent
import pytest
from channel import Stranger, guarded_master, key_pair, keys_for, wait_until
from locust.env import Environment

from loadtests.commands.dispatch import dispatch
from loadtests.errors import ExitCode, ScenarioError
from loadtests.swarm import sockets
from loadtests.swarm.door import answer
from loadtests.swarm.keys import (
    AgentKeys,
    authorise,
    create_key,
    keys_of_agent,
    keys_of_master,
    load_authorised,
    load_own_keys,
    revoke,
)
from loadtests.swarm.refusals import REFUSALS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's keys of one test."""
    monkeypatch.setenv("HEADROOM_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv("HEADROOM_KEY", raising=False)
    return tmp_path / "keys"


# How keys are kept


def test_a_key_comes_back_as_it_was_made(folder: Path) -> None:
    """Name, both halves; the file is its owner's alone, and prints no secret by accident."""
    made = create_key(folder, "agent-1")
    assert load_own_keys(folder) == (made,)
    assert (folder / "agent-1.key").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert made.secret.hex() not in repr(made)


def test_a_key_is_not_replaced_by_mistake(folder: Path) -> None:
    """A second key of a name takes a word of its own."""
    first = create_key(folder, "agent-1")
    with pytest.raises(ScenarioError, match="--replace"):
        create_key(folder, "agent-1")
    assert create_key(folder, "agent-1", is_replaced=True) != first


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
@pytest.mark.parametrize("name", ["master.key", "authorised"])
def test_a_file_that_others_reach_is_refused(folder: Path, name: str, mode: int) -> None:
    """Secret or allow-list: one bit for anybody else, and it is not used but named."""
    create_key(folder, "master")
    authorise(folder, "agent-1", key_pair("agent-1").public.hex())
    (folder / name).chmod(mode)
    with pytest.raises(ScenarioError, match=f"chmod 600 .*{name}"):
        keys_of_master("0.0.0.0")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_in_which_others_write_is_refused(folder: Path, mode: int) -> None:
    """They could put a list of their own in the place of ours."""
    create_key(folder, "master")
    authorise(folder, "agent-1", key_pair("agent-1").public.hex())
    folder.chmod(mode)
    with pytest.raises(ScenarioError, match=f"mode {mode:04o}.*chmod 700"):
        keys_of_master("0.0.0.0")
    with pytest.raises(ScenarioError, match="chmod 700"):
        authorise(folder, "agent-2", key_pair("agent-2").public.hex())


def test_stricter_than_needed_is_fine(folder: Path) -> None:
    """0400, as secrets are mounted into containers."""
    made = create_key(folder, "agent-1")
    (folder / "agent-1.key").chmod(0o400)
    assert load_own_keys(folder) == (made,)


@pytest.mark.parametrize("name", ["", "../evil", "a b", ".hidden", "a/b", "a\n", "x" * 81])
def test_hostile_names_are_refused(folder: Path, name: str) -> None:
    """A name becomes a file and a line: nothing but letters, digits, dot, line and dash."""
    with pytest.raises(ScenarioError, match="a name such as agent-1"):
        create_key(folder, name)
    with pytest.raises(ScenarioError, match="a name such as agent-1"):
        authorise(folder, name, "0" * 64)


@pytest.mark.parametrize("key", ["", "12", "0" * 63, "0" * 65, "x" * 64, "0" * 62 + "é", "0" * 64])
def test_what_is_no_public_key_is_refused(folder: Path, key: str) -> None:
    """64 hexadecimal digits and not all zero, whose secret everybody has."""
    with pytest.raises(ScenarioError, match="64 hexadecimal digits"):
        authorise(folder, "agent-1", key)


def test_a_key_has_one_name_and_a_name_one_key(folder: Path) -> None:
    """Authorising again replaces; the same key under another name is a mistake."""
    first, second = (key_pair("agent-1").public.hex() for _ in range(2))
    assert not authorise(folder, "agent-1", first)
    assert not authorise(folder, "agent-1", first)
    assert authorise(folder, "agent-1", second)
    with pytest.raises(ScenarioError, match="the key of agent-1"):
        authorise(folder, "agent-2", second)
    revoke(folder, "agent-1")
    assert load_authorised(folder) == {}
    with pytest.raises(ScenarioError, match="none is authorised"):
        revoke(folder, "agent-1")


@pytest.mark.parametrize(
    "text", ["agent-1\n", "agent-1 12\n", "agent-1 {k}\nagent-1 {k}\n", "agent-1 {k}\nb {k}\n"]
)
def test_a_damaged_list_is_refused_with_its_line(folder: Path, text: str) -> None:
    """No line of an allow-list is guessed at or left out."""
    folder.mkdir()
    (folder / "authorised").write_text(text.format(k="ab" * 32), encoding="ascii")
    (folder / "authorised").chmod(0o600)
    with pytest.raises(ScenarioError, match="line "):
        load_authorised(folder)


def test_a_damaged_secret_is_refused_and_not_shown(folder: Path) -> None:
    """What stands in its place may be a secret of another program."""
    create_key(folder, "master")
    (folder / "master.key").write_text("hunter2\n", encoding="ascii")
    with pytest.raises(ScenarioError) as caught:
        keys_of_master("0.0.0.0")
    assert "hunter2" not in str(caught.value)


# Who needs which


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_loopback_needs_no_key(host: str) -> None:
    """What no other host reaches is as safe as the host; a key that is named is used."""
    assert keys_of_master(host) is None
    assert keys_of_agent(host) is None
    with pytest.raises(ScenarioError, match="keys create mine"):
        keys_of_master(host, "mine")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*", "10.0.0.1", "master.example", ""])
def test_anything_else_needs_keys_and_says_which_command_helps(folder: Path, host: str) -> None:
    """Step by step: own key, then at least one agent; and the master's key on an agent's host."""
    with pytest.raises(ScenarioError, match="headroom keys create master"):
        keys_of_master(host)
    create_key(folder, "master")
    with pytest.raises(ScenarioError, match="headroom keys authorise NAME"):
        keys_of_master(host)
    agent = create_key(folder, "agent-1")
    authorise(folder, "agent-1", agent.public.hex())
    keys = keys_of_master(host)
    assert keys is not None
    assert keys.agents == {agent.public: "agent-1"}
    with pytest.raises(ScenarioError, match="headroom keys authorise master"):
        keys_of_agent(host)
    authorise(folder, "master", keys.own.public.hex())
    assert keys_of_agent(host) == AgentKeys(own=agent, master_public=keys.own.public)
    create_key(folder, "agent-2")
    with pytest.raises(ScenarioError, match="agent-1, agent-2"):
        keys_of_agent(host)
    assert keys_of_agent(host, "agent-2") is not None


@pytest.mark.system
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*"])
def test_the_socket_itself_refuses_to_be_open_without_keys(host: str) -> None:
    """Whoever forgets to ask for keys cannot open a channel to strangers, nor join one."""
    with pytest.raises(ScenarioError, match="without a key"):
        sockets.GuardedServer(host, 0)
    with pytest.raises(ScenarioError, match="without a key"):
        sockets.GuardedClient(host, 1, "me")


@pytest.mark.parametrize(
    "command",
    [
        ["run", "{scenario}", "--bind", "0.0.0.0", "--expect-workers", "1"],
        ["worker", "--master", "192.0.2.1"],
    ],
)
def test_the_commands_refuse_before_anything_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Exit code 2, and the command that helps."""
    monkeypatch.chdir(folder.parent)
    scenario = Path(__file__).parents[1] / "plan" / "good" / "minimal.toml"
    errors = StringIO()
    words = [word.format(scenario=scenario) for word in command]
    assert dispatch(words, StringIO(), errors) is ExitCode.USAGE
    assert "headroom keys create" in errors.getvalue()
    assert not list(folder.parent.iterdir())


def test_the_command_makes_authorises_lists_and_revokes(folder: Path) -> None:
    """What `create` prints is what `authorise` takes; no secret is ever printed."""

    def headroom(*words: str) -> str:
        printed = StringIO()
        assert dispatch(["keys", *words], printed, StringIO()) is ExitCode.PASS
        return printed.getvalue()

    public = headroom("create", "agent-1").strip()
    headroom("authorise", "agent-2", "ab" * 32)
    listed = json.loads(headroom("list", "--json"))
    assert listed == [
        {"name": "agent-1", "kind": "own", "public": public},
        {"name": "agent-2", "kind": "authorised", "public": "ab" * 32},
    ]
    (own,) = load_own_keys(folder)
    assert (own.public.hex(), own.secret.hex() in headroom("list")) == (public, False)
    headroom("revoke", "agent-2")
    assert [row["name"] for row in json.loads(headroom("list", "--json"))] == ["agent-1"]


# Whom they let in


@pytest.fixture(autouse=True)
def _count_anew() -> Iterator[None]:
    REFUSALS.counts.clear()
    yield
    REFUSALS.counts.clear()


@pytest.mark.parametrize(
    ("request_frames", "status"),
    [
        ([b"1.0", b"7", b"headroom", b"10.0.0.1", b"", b"CURVE", b"k" * 32], b"200"),
        ([b"1.0", b"7", b"headroom", b"10.0.0.1", b"", b"CURVE", b"x" * 32], b"400"),
        ([b"1.0", b"7", b"headroom", b"10.0.0.1", b"", b"NULL"], b"400"),
        ([b"1.0", b"7", b"headroom", b"10.0.0.1", b"", b"PLAIN", b"k" * 32, b"p"], b"400"),
        ([b"2.0", b"7", b"headroom", b"10.0.0.1", b"", b"CURVE", b"k" * 32], b"400"),
        ([b"1.0"], b"400"),
        ([], b"400"),
    ],
)
def test_the_door_lets_authorised_keys_in_and_nothing_else(
    request_frames: list[bytes], status: bytes
) -> None:
    """Known key and CURVE, and its name goes with it; anything else is 400."""
    reply = answer(request_frames, {b"k" * 32: "agent-1"})
    assert len(reply) == 6
    assert (reply[2], reply[4]) == (status, b"agent-1" if status == b"200" else b"")


@pytest.mark.system
def test_an_authorised_agent_joins_under_its_keys_name() -> None:
    """A real Locust worker: whatever Locust calls it, the master knows it by its key."""
    master_keys, agents = keys_for("agent-1")
    with guarded_master(master_keys) as master:
        sockets.guard_sockets(agent_keys=lambda _host: agents["agent-1"])
        port = master.server.port
        worker = Environment(user_classes=[]).create_worker_runner("127.0.0.1", port)
        try:
            assert set(master.clients) == {"agent-1"}
            assert sockets.key_name_of(worker) == "agent-1"
            assert sockets.is_secured(master)
        finally:
            worker.greenlet.kill(block=True)
            worker.client.socket.close(linger=0)


@pytest.mark.system
def test_strangers_reach_nothing() -> None:
    """No key, an unknown key, the wrong master key: not one message of theirs is received."""
    master_keys, agents = keys_for("agent-1")
    unknown = AgentKeys(own=key_pair("agent-1"), master_public=master_keys.own.public)
    misled = AgentKeys(own=agents["agent-1"].own, master_public=key_pair("x").public)
    with guarded_master(master_keys) as master:
        for keys in (None, unknown, misled):
            stranger = Stranger(master.server.port, b"agent-1", keys)
            stranger.say("client_ready", "2.47.0")
        wait_until(lambda: REFUSALS.counts["not an authorised key"] > 0)
        honest = Stranger(master.server.port, b"agent-1", agents["agent-1"])
        honest.say("client_ready", "2.47.0")
        assert honest.hear()[0] == "ack"
        gevent.sleep(0.3)  # what the others sent would be here by now
        assert set(master.clients) == {"agent-1"}
        assert set(REFUSALS.counts) == {"not an authorised key"}


@pytest.mark.system
def test_an_authorised_agent_speaks_in_no_other_name() -> None:
    """Neither by its socket's identity nor by the node that its messages name."""
    master_keys, agents = keys_for("agent-1", "agent-2")
    with guarded_master(master_keys) as master:
        thief = Stranger(master.server.port, b"agent-1", agents["agent-2"])
        thief.say("client_ready", "2.47.0")
        wait_until(lambda: REFUSALS.counts["sent in another key's name"] == 1)
        liar = Stranger(master.server.port, b"agent-2", agents["agent-2"])
        liar.say("client_ready", "2.47.0", "agent-1")
        wait_until(lambda: REFUSALS.counts["sent in another worker's name"] == 1)
        assert not master.clients


@pytest.mark.system
def test_an_agent_that_reconnects_takes_its_name_over() -> None:
    """Its dead connection is in nobody's way: the new one is heard and answered at once."""
    master_keys, agents = keys_for("agent-1")
    with guarded_master(master_keys) as master:
        first = Stranger(master.server.port, b"agent-1", agents["agent-1"])
        first.say("client_ready", "2.47.0")
        assert first.hear()[0] == "ack"
        second = Stranger(master.server.port, b"agent-1", agents["agent-1"])
        second.say("client_ready", "2.47.0")
        assert second.hear()[0] == "ack"


class Forgetful:
    """A TCP proxy that forgets its connections on command, and tells neither side (NAT)."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.is_forgetting = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            self._kept += [near, far]  # never closed: nobody is told
            forgotten = self.is_forgetting
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink, forgotten), daemon=True).start()

    def forget(self) -> None:
        """What is connected now is dead from now on; new connections work."""
        old, self.is_forgetting = self.is_forgetting, threading.Event()
        old.set()

    def close(self) -> None:
        """Everything."""
        self._listener.close()
        for one in self._kept:
            one.close()


def _pump(source: socket.socket, sink: socket.socket, forgotten: threading.Event) -> None:
    try:
        while data := source.recv(65_536):
            if not forgotten.is_set():
                sink.sendall(data)
    except OSError:
        return


@pytest.mark.system
@pytest.mark.faults
def test_a_connection_that_a_proxy_forgot_is_made_anew() -> None:
    """Half-open: heartbeats notice, the agent reconnects and is heard, without a word of TCP."""
    master_keys, agents = keys_for("agent-1")
    with guarded_master(master_keys) as master:
        proxy = Forgetful(master.server.port)
        sockets.guard_sockets(agent_keys=lambda _host: agents["agent-1"])
        worker = Environment(user_classes=[]).create_worker_runner("127.0.0.1", proxy.port)
        try:
            heard: list[object] = []
            master.register_message("headroom", lambda msg, **_: heard.append(msg.data))
            proxy.forget()
            most_s = (sockets.HEARTBEAT_IVL_MS + sockets.HEARTBEAT_TIMEOUT_MS) / 1000

            def is_heard() -> bool:
                worker.send_message("headroom", b"still here")  # type: ignore[arg-type]
                gevent.sleep(0.2)
                return bool(heard)

            wait_until(is_heard, most_s + 20)
        finally:
            worker.greenlet.kill(block=True)
            worker.client.socket.close(linger=0)
            proxy.close()


# What never travels


@pytest.mark.system
def test_no_option_of_a_master_travels() -> None:
    """Locust sends its master's options with every `spawn`; here a secret one stays."""
    with guarded_master() as master:
        master.environment.parsed_options = Namespace(
            token="s3cret-token", enable_rebalancing=False, headless=True
        )
        worker = Stranger(master.server.port, b"honest")
        worker.say("client_ready", "2.47.0")
        assert worker.hear()[0] == "ack"
        job: dict[str, Any] = {"timestamp": 1.0, "parsed_options": {"token": "s3cret-token"}}
        master.send_message("spawn", data=job, client_id="honest")
        name, data, _ = worker.hear()
        assert (name, data["parsed_options"]) == ("spawn", {})


@pytest.mark.system
def test_the_locustfile_is_not_handed_out() -> None:
    """A worker that asks for the master's code (`locust -f -`) is counted, and told nothing."""
    with guarded_master() as master:
        master.environment.parsed_locustfiles = [__file__]
        worker = Stranger(master.server.port, b"honest")
        worker.say("client_ready", "2.47.0")
        assert worker.hear()[0] == "ack"
        worker.say("locustfile", {"version": "2.47.0"})
        wait_until(lambda: REFUSALS.counts["unknown type"] == 1)
        with pytest.raises(gevent.Timeout):
            worker.hear(0.3)
