"""Loading a scenario file: one way in, every mistake at once.

TOML of `version = 1` is decoded section by section, the files it names are read, and the
whole is resolved at scale 1, so that structural and semantic mistakes are reported
together, each with its path. Nothing is started from a file that has one.

    version, name, description
    [target]      nodes, tls, version_path, max_rate, response_limit, connect_timeout,
                  connect_rate, protocol ("http1", "http2"), keepalive, authority
    [baselines]   NAME = "776000 rps"
    [load]        model, baseline, rate, arrivals, seed, connections, channels, streams,
                  in_flight, backlog, pipelining, think_time, warm_up, grace, loss_policy
    [[feeds]]     name, file
    [grpc]        protos, includes | descriptor_set | reflection
    [[requests]]  name, method, path, headers, body | body_file, weight, expected_statuses,
                  checks, timeout
                  or, where method is "pkg.Service/Method": name, method, message |
                  message_file, metadata, compression, weight, expected_codes, checks,
                  timeout, messages, pace
    [[stages]]    name, duration, shape and its levels, judged
    [criteria]    objectives, alerts, aborts
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from loadtests.errors import ScenarioError
from loadtests.plan import spec
from loadtests.plan.attachments import read_attachments, read_text
from loadtests.plan.decoding import (
    decode,
    decode_partly,
    decode_request,
    decode_stage,
    unknown_key,
)
from loadtests.plan.nodes import build_nodes, build_tls
from loadtests.plan.reflection import Reflect
from loadtests.plan.resolve import build_plan, resolve
from loadtests.plan.spec import ScenarioFile
from loadtests.plan.units import UnitError
from loadtests.plan.values import NAME, NAME_EXPECTED, Mistakes, positive_rate, shown

__all__ = ["ScenarioFile", "load_scenario", "resolve"]

VERSION: Final = 1
MOST_SCENARIO_BYTES: Final = spec.MIB
_MOST_ITEMS: Final = 1000  # of a list of tables; bounds the work on a hostile file
_KEYS: Final = (
    "version",
    "name",
    "description",
    "target",
    "baselines",
    "load",
    "feeds",
    "grpc",
    "requests",
    "stages",
    "criteria",
)
_REQUIRED: Final = ("version", "target", "load", "requests", "stages")
_LOAD_DECISIVE: Final = frozenset({"model", "rate", "baseline", "connections"})

Item = TypeVar("Item")
Raw = Mapping[str, Any]


def _parse_toml(path: Path, mistakes: Mistakes) -> tuple[str, Raw] | None:
    text = read_text(path, MOST_SCENARIO_BYTES, "file", mistakes)
    if text is None:
        return None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        mistakes.add("file", str(error), "TOML")
    except RecursionError:
        mistakes.add("file", "tables nested without end", "TOML")
    return None


def _check_top(raw: Raw, mistakes: Mistakes) -> None:
    for key in sorted(raw.keys() - set(_KEYS)):
        mistakes.add(shown(key)[1:-1], "an unknown key", unknown_key(key, _KEYS))
    for key in _REQUIRED:
        if key not in raw:
            mistakes.add(key, "nothing", "this key: it is required")
    version = raw.get("version", VERSION)
    if isinstance(version, bool) or version != VERSION:
        mistakes.add("version", shown(version), f"{VERSION}, the only version so far")


def _name(raw: Raw, path: Path, mistakes: Mistakes) -> str:
    name = raw.get("name", path.stem)
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        mistakes.add("name", shown(name), NAME_EXPECTED)
        return "unnamed"
    return name


def _baselines(raw: Raw, mistakes: Mistakes) -> dict[str, spec.PerSecond]:
    table = raw.get("baselines", {})
    if not isinstance(table, dict):
        mistakes.add("baselines", shown(table), "a table of rates")
        return {}
    found = {}
    for name, text in table.items():
        where = f"baselines.{shown(name)[1:-1]}"
        if NAME.fullmatch(name) is None:
            mistakes.add(where, shown(name), NAME_EXPECTED)
        try:
            found[name] = spec.PerSecond(positive_rate(text if isinstance(text, str) else ""))
        except UnitError as error:
            mistakes.add(where, shown(text), error.expected)
            found[name] = spec.PerSecond(1.0)  # so that references to it are no second mistake
    return found


def _items(
    raw: Raw,
    key: str,
    mistakes: Mistakes,
    decode_item: Callable[[object, str, Mistakes], Item | None],
) -> tuple[Item | None, ...]:
    items = raw.get(key, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        mistakes.add(key, shown(items), f"tables: [[{key}]]")
        return (None,)
    if len(items) > _MOST_ITEMS:
        mistakes.add(key, f"{len(items)} tables", f"at most {_MOST_ITEMS}")
        return (None,)
    if key in raw and not items:
        return ()
    if key not in raw and key in _REQUIRED:
        return (None,)  # its absence is noted already
    return tuple(decode_item(item, f"{key}[{index}]", mistakes) for index, item in enumerate(items))


def _names(raw: Raw, key: str) -> frozenset[str]:
    items = raw.get(key, [])
    tables = items if isinstance(items, list) else []
    names = (item.get("name") for item in tables if isinstance(item, dict))
    return frozenset(name for name in names if isinstance(name, str))


def _section(
    raw: Raw, key: str, kind: type[Item], decisive: frozenset[str], mistakes: Mistakes
) -> Item | None:
    return decode_partly(kind, raw[key], key, decisive, mistakes) if key in raw else None


def _decode_document(raw: Raw, path: Path, mistakes: Mistakes) -> spec.Document:
    _check_top(raw, mistakes)
    description = raw.get("description", "")
    if not isinstance(description, str):
        mistakes.add("description", shown(description), "a text in quotes")
        description = ""

    def decode_feed(item: object, where: str, noted: Mistakes) -> spec.FeedSpec | None:
        return decode(spec.FeedSpec, item, where, noted)

    return spec.Document(
        name=_name(raw, path, mistakes),
        description=description,
        target=_section(raw, "target", spec.TargetSpec, frozenset({"nodes"}), mistakes),
        baselines=_baselines(raw, mistakes),
        load=_section(raw, "load", spec.LoadSpec, _LOAD_DECISIVE, mistakes),
        feeds=_items(raw, "feeds", mistakes, decode_feed),
        grpc=_section(raw, "grpc", spec.GrpcSpec, frozenset(), mistakes),
        requests=_items(raw, "requests", mistakes, decode_request),
        stages=_items(raw, "stages", mistakes, decode_stage),
        criteria=_section(raw, "criteria", spec.CriteriaSpec, frozenset(), mistakes),
        request_names=_names(raw, "requests"),
        stage_names=_names(raw, "stages"),
    )


def _check_grpc(raw: Raw, document: spec.Document, mistakes: Mistakes) -> None:
    for index, request in enumerate(document.requests):
        if isinstance(request, spec.CallSpec) and "grpc" not in raw:
            expected = "this section, with protos, descriptor_set or reflection: "
            mistakes.add("grpc", "nothing", f"{expected}requests[{index}] calls a method")
            return


def _asking(
    reflect: Reflect | None, document: spec.Document, targets: Sequence[str]
) -> Callable[[str | None], bytes | None] | None:
    """How to ask the nodes for their types, given the CA's certificates."""
    target = document.target
    if reflect is None or target is None:
        return None

    def ask(ca_pem: str | None) -> bytes | None:
        unnoted = Mistakes()  # they are found again, and noted, when the plan is built
        nodes = build_nodes(target, targets, unnoted)
        tls = build_tls(target, nodes, ca_pem, unnoted)
        return None if unnoted.found else reflect(nodes, tls)

    return ask


def load_scenario(
    path: Path | str, *, targets: Sequence[str] = (), reflect: Reflect | None = None
) -> ScenarioFile:
    """Read, decode and check a scenario; ScenarioError with every mistake in it.

    Where its types come from server reflection, `reflect` asks the nodes: `targets` (of the
    command line), else the scenario's; TargetError when that fails or is not allowed.
    """
    path = Path(path)
    mistakes = Mistakes()
    parsed = _parse_toml(path, mistakes)
    if parsed is None:
        raise ScenarioError(str(path), tuple(mistakes.found))
    text, raw = parsed
    document = _decode_document(raw, path, mistakes)
    _check_grpc(raw, document, mistakes)
    ask = _asking(reflect, document, targets)
    attachments = read_attachments(path.parent, document, mistakes, ask=ask)
    build_plan(document, attachments, mistakes, text=text)
    if mistakes.found:
        # Two roads can lead to one mistake (a default level used by several stages).
        raise ScenarioError(str(path), tuple(dict.fromkeys(mistakes.found)))
    return ScenarioFile(path=path, text=text, document=document, attachments=attachments)
