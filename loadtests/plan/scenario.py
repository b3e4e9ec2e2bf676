"""Loading a scenario file: one way in, every mistake at once.

TOML of `version = 1` is decoded, the files it names are read, and the whole is resolved at
scale 1, mistakes or not, so that structural and semantic ones are reported together, each
with its path. Nothing is started from a file that has one.

    version, name, description
    [target]      nodes, tls, version_path, max_rate, response_limit, connect_timeout,
                  connect_rate, protocol ("http1", "http2"), keepalive, authority
    [baselines]   NAME = "776000 rps"
    [load]        model, baseline, rate, arrivals, seed, connections, channels, streams,
                  in_flight, backlog, pipelining, think_time, warm_up, grace, loss_policy,
                  bins
    [[feeds]]     name, file
    [grpc]        protos, includes | descriptor_set | reflection
    [server]      path, port | prometheus, node_label; every, timeout, response_limit, headers
    [server.measures.NAME]  unit ("ratio", "bytes", "count", "per_s"), series, query
    [[requests]]  name, method, path, headers, body | body_file, weight, expected_statuses,
                  checks, timeout
                  or, where method is "pkg.Service/Method": name, method, message |
                  message_file, metadata, compression, weight, expected_codes, checks,
                  timeout, messages, pace
    [[stages]]    name, duration, shape and its levels, judged
    [criteria]    objectives, alerts, aborts, slo, slo_window_days
    [audit]       request, id, timeout, rate; [audit.read] path, method, headers, body, copies,
                  present, absent, over
    [failover]    system ("own", "embedded"), quorum ("none", "majority"), election, health
    [failover.steady_state]  for, within
    [failover.leader]        path, pointer, own, method, body
    [failover.haproxy]       admin, inter, fastinter, check_timeout, fall, rise
    [[failover.nodes]]       name, zone, url, voter, pid_file, start, servers, namespace,
                             interface, proxy, version, behaviour (of embedded nodes)
    [failover.rollout]       to, every, window, sustain, gap, floor, path, timers, ignore, timeout
    [[failover.rollout.phases]]  traffic, hold, triggers
    [[failover.faults]]      name, action, on, at, after, when, undo_after, timeout, and what
                             the action takes: latency, bandwidth, weight, command, undo_command,
                             verify_command

With a `[server]`, even an empty one, the target's own metrics are read during the run: of
each node, or of a Prometheus server. `server_metrics.py` has the default measures and the
grammar of `series`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from loadtests.errors import ScenarioError
from loadtests.plan import spec
from loadtests.plan.attachments import read_attachments, read_text
from loadtests.plan.decoding import decode
from loadtests.plan.nodes import build_nodes, build_tls
from loadtests.plan.reflection import Reflect
from loadtests.plan.resolve import build_plan, resolve
from loadtests.plan.spec import ScenarioFile
from loadtests.plan.values import Mistakes

__all__ = ["ScenarioFile", "load_scenario", "resolve"]

MOST_SCENARIO_BYTES: Final = spec.MIB


def _parse_toml(path: Path, mistakes: Mistakes) -> tuple[str, dict[str, Any]] | None:
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


def _asking(
    reflect: Reflect | None, document: spec.Document, targets: Sequence[str]
) -> Callable[[str | None], bytes | None] | None:
    """How to ask the nodes for their types, given the CA's certificates."""
    target = document.target
    if reflect is None:
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
    document = decode(spec.Document, {"name": path.stem, **raw}, "", mistakes)
    ask = _asking(reflect, document, targets)
    attachments = read_attachments(path.parent, document, mistakes, ask=ask)
    build_plan(document, attachments, mistakes, text=text)
    if mistakes.found:
        raise ScenarioError(str(path), tuple(mistakes.found))
    return ScenarioFile(path=path, text=text, document=document, attachments=attachments)
