"""Keys of the control channel: this host's own, and the public keys that it trusts.

A master or an agent that speaks over more than loopback proves who it is with a CURVE key
(RFC 26 of ZeroMQ). All live in one folder, $HEADROOM_KEYS, else `keys` beside the user's
configuration: `NAME.key` holds a secret of this host, `authorised` a line "NAME PUBLIC-KEY"
for each peer. The law: a file that others than its owner can read or write is refused, never
used with a warning; so is a folder in which others could put another file in its place. Keys
are written in hexadecimal: nothing a shell would touch.

The key called `master` is the master's: on its host a secret, on agents' an authorised one.
Every other authorised key is an agent's, and its name is the agent's name.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import zmq
from zmq.utils import z85

from loadtests.errors import Mistake, ScenarioError
from loadtests.plan.host import config_folder
from loadtests.plan.model import is_loopback

FOLDER_VARIABLE: Final = "HEADROOM_KEYS"
NAME_VARIABLE: Final = "HEADROOM_KEY"
MASTER: Final = "master"
AUTHORISED_FILE: Final = "authorised"
SUFFIX: Final = ".key"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")  # of `messages.Name`
_KEY_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_ROOT: Final = 0
_EXPECTED_NAME: Final = "a name such as agent-1: letters, digits, '.', '_' and '-'"
_EXPECTED_KEY: Final = "a public key as `headroom keys create` prints it: 64 hexadecimal digits"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """One of this host's own keys, 32 bytes each."""

    name: str
    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKeys:
    """What a master listens with: its own key, and the agents' names by public key."""

    own: KeyPair
    agents: Mapping[bytes, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKeys:
    """What an agent connects with: its own key, and the one master that it believes."""

    own: KeyPair
    master_public: bytes


def keys_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where keys live."""
    named = environment.get(FOLDER_VARIABLE)
    return Path(named) if named else config_folder(environment) / "keys"


def _refuse(where: str, seen: str, expected: str) -> NoReturn:
    raise ScenarioError("keys", (Mistake(where=where, seen=seen, expected=expected),))


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        _refuse("NAME", repr(name), _EXPECTED_NAME)


def _parse_key(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES or not any(key):  # all zero: what everybody has a secret for
        _refuse(where, repr(text), _EXPECTED_KEY)
    return key


def _check_folder(folder: Path) -> None:
    """ScenarioError where others than the owner could exchange what lies in it."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & _OTHERS_WRITE:
        _refuse(str(folder), f"mode {mode:04o}", f"0700, as: chmod 700 {folder}")


def _read(path: Path) -> str | None:
    """A private file's text; None where there is none. ScenarioError when others reach it."""
    try:
        with path.open(encoding="ascii") as file:
            _check_folder(path.parent)
            state = os.fstat(file.fileno())
            mode = stat.S_IMODE(state.st_mode)
            if mode & _OTHERS:
                _refuse(str(path), f"mode {mode:04o}", f"0600, as: chmod 600 {path}")
            if state.st_uid not in {os.getuid(), _ROOT}:
                _refuse(str(path), f"owner {state.st_uid}", "a file of your own")
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        _refuse(str(path), str(error), "a file of keys that you can read")


def _write(path: Path, text: str) -> None:
    """Replace a file, readable for its owner alone from its first byte on."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(path.parent)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        _refuse(str(path), str(error), "a folder that you can write")


def _own_path(folder: Path, name: str) -> Path:
    return folder / f"{name}{SUFFIX}"


def create_key(folder: Path, name: str, *, is_replaced: bool = False) -> KeyPair:
    """Make a key of this host; one that exists is kept unless `is_replaced`."""
    _check_name(name)
    path = _own_path(folder, name)
    if path.exists() and not is_replaced:
        _refuse(str(path), "a key of this name", "another name, or --replace for a new key")
    public, secret = (z85.decode(key) for key in zmq.curve_keypair())
    _write(
        path,
        f"# The secret key of {name}: whoever reads this file can pose as it.\n"
        f"# public {public.hex()}\n{secret.hex()}\n",
    )
    return KeyPair(name=name, public=public, secret=secret)


def _load_own(folder: Path, name: str) -> KeyPair | None:
    _check_name(name)
    path = _own_path(folder, name)
    text = _read(path)
    if text is None:
        return None
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    try:
        secret = bytes.fromhex(lines[0]) if len(lines) == 1 else b""
    except ValueError:
        secret = b""
    if len(secret) != _KEY_BYTES:  # what it holds instead is not shown: it may be a secret
        _refuse(str(path), "no secret key", "a file that `headroom keys create` has written")
    public = z85.decode(zmq.curve_public(z85.encode(secret)))
    return KeyPair(name=name, public=public, secret=secret)


def load_own_keys(folder: Path) -> tuple[KeyPair, ...]:
    """All keys of this host, by name."""
    names = sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"[!.]*{SUFFIX}"))
    found = (_load_own(folder, name) for name in names)
    return tuple(key for key in found if key is not None)


def load_authorised(folder: Path) -> dict[str, bytes]:
    """Public keys that this host trusts, by name."""
    path = folder / AUTHORISED_FILE
    keys: dict[str, bytes] = {}
    for number, line in enumerate((_read(path) or "").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, key = line.strip().partition(" ")
        where = f"{path}, line {number}"
        if _NAME.fullmatch(name) is None or name in keys:
            _refuse(where, repr(name), f"{_EXPECTED_NAME}, once")
        public = _parse_key(key.strip(), where)
        if public in keys.values():
            _refuse(where, "a key that another name has", "one name for a key")
        keys[name] = public
    return keys


def _write_authorised(folder: Path, keys: Mapping[str, bytes]) -> None:
    lines = "".join(f"{name} {public.hex()}\n" for name, public in sorted(keys.items()))
    _write(folder / AUTHORISED_FILE, lines)


def authorise(folder: Path, name: str, public: str) -> bool:
    """Trust a peer's public key; True when the name had another one, which it replaces."""
    _check_name(name)
    key = _parse_key(public, "PUBLIC_KEY")
    keys = load_authorised(folder)
    for other, known in keys.items():
        if known == key and other != name:
            _refuse("PUBLIC_KEY", f"the key of {other}", "a key for each peer")
    is_replaced = name in keys and keys[name] != key
    _write_authorised(folder, {**keys, name: key})
    return is_replaced


def revoke(folder: Path, name: str) -> None:
    """Trust a peer no longer."""
    keys = load_authorised(folder)
    if keys.pop(name, None) is None:
        _refuse("NAME", repr(name), f"one of: {', '.join(keys) or 'none is authorised'}")
    _write_authorised(folder, keys)


def keys_of_master(host: str, name: str | None = None) -> MasterKeys | None:
    """Keys to listen on `host` with; None on loopback, unless a key is named.

    ScenarioError with the command that helps when a key or every agent is missing.
    """
    name = name or os.environ.get(NAME_VARIABLE)
    if is_loopback(host) and name is None:
        return None
    folder = keys_folder()
    own = _load_own(folder, name or MASTER)
    where = f"a master on {host}, which others than this host reach"
    if own is None:
        seen = f"no key {name or MASTER} in {folder}"
        _refuse(where, seen, f"a loopback address, or: headroom keys create {name or MASTER}")
    agents = {key: name for name, key in load_authorised(folder).items() if name != MASTER}
    if not agents:
        seen = f"no authorised agent in {folder / AUTHORISED_FILE}"
        _refuse(where, seen, "for each agent: headroom keys authorise NAME PUBLIC_KEY")
    return MasterKeys(own=own, agents=agents)


def keys_of_agent(host: str, name: str | None = None) -> AgentKeys | None:
    """Keys to join a master on `host` with; None on loopback, unless a key is named.

    Without a name it is this host's only key that is not a master's. ScenarioError else.
    """
    name = name or os.environ.get(NAME_VARIABLE)
    if is_loopback(host) and name is None:
        return None
    folder = keys_folder()
    where = f"an agent of the master on {host}"
    if name is None:
        own = _only_key(folder, where)
    else:
        named = _load_own(folder, name)
        if named is None:
            _refuse(where, f"no key {name} in {folder}", f"headroom keys create {name}")
        own = named
    master = load_authorised(folder).get(MASTER)
    if master is None:
        seen = f"no key of the master in {folder / AUTHORISED_FILE}"
        _refuse(where, seen, f"headroom keys authorise {MASTER} PUBLIC_KEY")
    return AgentKeys(own=own, master_public=master)


def _only_key(folder: Path, where: str) -> KeyPair:
    found = [key for key in load_own_keys(folder) if key.name != MASTER]
    if not found:
        _refuse(where, f"no key in {folder}", "headroom keys create NAME, the agent's name")
    if len(found) > 1:
        names = ", ".join(key.name for key in found)
        _refuse(where, f"the keys {names} in {folder}", f"one of them by --key or ${NAME_VARIABLE}")
    return found[0]
