"""Writes that a server loses, doubles or brings back are caught, to the id."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from binned_run import binned_run
from system_rig import Fleet, fleet, only_run

from analysis.judging import State
from analysis.recovery.writes import WriteAudit, audit_writes, judge_writes
from analysis.unmeasured import Unmeasured
from analysis.verdict import judge, plan_of
from loadtests.audit.answers import copies_in
from loadtests.errors import ScenarioError
from loadtests.plan.model import AuditRead
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.record.archive import Run, verify
from loadtests.record.writes import WriteOutcome, merge_writes, outcome_of, writes_of

_TARGET = Path(__file__).with_name("ledger_target.py")
_SCENARIO = """
version = 1
name = "audited"
[target]
nodes = [{nodes}]
[load]
connections = 40
grace = "2 s"
[[requests]]
name = "submit"
method = "POST"
path = "/tx/w-${{run}}-${{seq}}"
timeout = "500 ms"
[audit]
request = "{request}"
id = "{id}"
rate = "2000 rps"
[audit.read]
path = "{read}"
copies = "/copies"
{over}
[[stages]]
name = "steady"
duration = "3 s"
rate = "100 rps"
[criteria]
objectives = ["lost_writes == 0", "resurrected_writes == 0", "duplicated_writes == 0"]
"""


def scenario(folder: Path, *urls: str, **changes: str) -> Path:
    """A scenario with an audit."""
    fields = {
        "request": "submit",
        "id": "w-${run}-${seq}",
        "read": "/tx/${id}",
        "over": "",
        **changes,
    }
    path = folder / "audited.toml"
    nodes = ", ".join(f'"{url}"' for url in urls or ("http://127.0.0.1:9003",))
    path.write_text(_SCENARIO.format(nodes=nodes, **fields))
    return path


def audited(folder: Path, *cheats: str) -> tuple[Run, dict[str, list[str]]]:
    """A run of `headroom` against a cheating ledger; its archive, and whom it cheated how."""
    command = [sys.executable, str(_TARGET), *cheats]
    with (folder / "said.txt").open("w+", encoding="utf-8") as said:
        target = subprocess.Popen(command, stdout=said)
        try:
            ports = _ports(folder)
            urls = [f"http://127.0.0.1:{port}" for port in ports]
            with fleet(folder) as started:
                run = _run(started, scenario(folder, *urls))
        finally:
            target.kill()
            target.wait()
    told: dict[str, list[str]] = {}
    for line in (folder / "said.txt").read_text(encoding="utf-8").splitlines()[1:]:
        cheat, id_ = line.split()
        told.setdefault(cheat, []).append(id_)
    return run, told


def _ports(folder: Path) -> list[str]:
    from system_rig import wait_until  # noqa: PLC0415 - a small helper of the rig

    path = folder / "said.txt"
    wait_until(lambda: path.read_text(encoding="utf-8").endswith("\n"), "the ledger's ports")
    return path.read_text(encoding="utf-8").splitlines()[0].split()


def _run(started: Fleet, path: Path) -> Run:
    command = started.run(path, "--engines", "2")
    command.wait(90)
    return only_run(started.results)


def audit_of(run: Run) -> WriteAudit:
    """The run's audit."""
    audit = audit_writes(run, plan_of(run))
    assert isinstance(audit, WriteAudit), audit
    return audit


@pytest.mark.failover
def test_a_ledger_that_cheats_is_caught_to_the_id(tmp_path: Path) -> None:
    """300 writes over two nodes and engines; every tenth is lost, doubled, resurrected ..."""
    run, told = audited(tmp_path, "3:lose", "4:duplicate", "5:resurrect", "6:refuse", "7:silent")
    assert verify(run.path) == ()
    audit = audit_of(run)
    assert audit.gaps == ()
    for found, cheat in (
        (audit.lost, "lose"), (audit.duplicated, "duplicate"), (audit.resurrected, "resurrect"),
    ):  # fmt: skip
        assert found.number == 30
        # The server's order is that of arrival, ours that of the numbers; ids are the same.
        by_number = sorted(told[cheat], key=lambda id_: int(id_.rpartition("-")[2]))
        assert list(found.examples) == by_number[:10], cheat
    assert (audit.acknowledged, audit.refused, audit.unknown) == (210, 60, 30)
    assert (audit.unknown_present, audit.unread) == (30, 0)
    assert run.read_back is not None
    verdict = judge(run)
    assert {one.state for one in verdict.objectives} == {State.FAIL}
    assert all(told["lose"][0][:5] in one.reason for one in verdict.objectives)
    _read_by_others(run)


def _read_by_others(run: Run) -> None:
    """Every id was read from the node that had not taken it."""
    assert run.read_back is not None
    plan = plan_of(run)
    from loadtests.plan.write_ids import match_writes  # noqa: PLC0415 - of this check alone

    rows = run.writes
    matched = match_writes(plan, rows["due_ns"].to_numpy("int64"), rows["slot"].to_numpy("int64"))
    assert matched.unmatched == 0
    took = rows["slot"].to_numpy("int64")[matched.entries] % 2
    wrote = pd.DataFrame({"sequence": matched.sequences, "took": took})
    both = wrote.merge(run.read_back, on="sequence")
    names = [node.name for node in plan.nodes]
    assert len(both) == 300
    assert (both["node"] == both["took"].map(lambda index: names[1 - index])).all()


@pytest.mark.failover
def test_an_honest_ledger_passes_and_an_unreadable_one_is_not_believed(tmp_path: Path) -> None:
    """Nothing lost passes only when every write was read back, and there were any."""
    for name, cheats, state in (
        ("honest", (), State.PASS),
        ("unreadable", ("3:unreadable",), State.INCONCLUSIVE),
        ("refusing", tuple(f"{digit}:refuse" for digit in range(10)), State.INCONCLUSIVE),
    ):
        (tmp_path / name).mkdir()
        run, _ = audited(tmp_path / name, *cheats)
        verdict = judge(run)
        assert {one.state for one in verdict.objectives} == {state}, verdict.reasons
        audit = audit_of(run)
        assert audit.acknowledged == (0 if name == "refusing" else 300)
        assert audit.unread == (30 if name == "unreadable" else 0)


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("status_409", WriteOutcome.FAIL),
        ("status_429", WriteOutcome.FAIL),
        ("status_408", WriteOutcome.INFO),
        ("status_500", WriteOutcome.INFO),
        ("status_503", WriteOutcome.INFO),
        ("grpc_3", WriteOutcome.FAIL),
        ("grpc_14", WriteOutcome.INFO),
        ("grpc_4", WriteOutcome.INFO),
        ("timeout", WriteOutcome.INFO),
        ("reset", WriteOutcome.INFO),
        ("connect_refused", WriteOutcome.FAIL),
        ("no_connection", WriteOutcome.FAIL),
        ("check", WriteOutcome.INFO),
    ],
)
def test_only_what_is_known_not_to_be_done_counts_as_refused(
    kind: str, outcome: WriteOutcome
) -> None:
    """A 5xx may come from somebody who does not know; a request that never left was not done."""
    assert outcome_of(kind) is outcome


def test_logs_merge_in_any_order() -> None:
    """Entries of several engines are the same table, whoever came first."""
    one, other = writes_of([5, 1, 0, 3, 2, 1], 0), writes_of([4, 1, 2], 7)
    merged = merge_writes([one, other])
    assert merged.rows.tolist() == merge_writes([other, one]).rows.tolist()
    assert merged.rows.tolist() == [[3, 2, 1], [4, 1, 2], [5, 1, 0]]
    assert merged.unlogged == 7


@pytest.mark.parametrize(
    ("copies", "body", "found"),
    [
        ("/count", b'{"count": 2}', 2),
        ("/count", b'{"count": "1"}', 1),
        ("/items", b'{"items": [1, 2, 3]}', 3),
        ("/items", b"{}", 0),
        ("/a/0/b", b'{"a": [{"b": 1}]}', 1),
        (None, b"anything", 1),
    ],
)
def test_answers_say_how_many_copies_there_are(copies: str | None, body: bytes, found: int) -> None:
    """Lists count, numbers are numbers, also as texts; nothing at the pointer is nothing."""
    assert copies_in(read_of(copies), 200, body) == found
    assert copies_in(read_of(copies), 404, b"") == 0


@pytest.mark.parametrize("body", [b"no json", b'{"count": true}', b'{"count": -1}', b"\xff"])
def test_answers_that_do_not_say_are_no_absence(body: bytes) -> None:
    """What cannot be understood is no proof that a write is gone."""
    assert isinstance(copies_in(read_of("/count"), 200, body), str)
    assert isinstance(copies_in(read_of("/count"), 500, b""), str)


def test_an_audit_that_crashes_is_inconclusive(tmp_path: Path) -> None:
    """A log without a column proves nothing, and is no lost verdict."""
    plan = resolve(load_scenario(scenario(tmp_path)))
    run = binned_run(tmp_path)
    damaged = dataclasses.replace(run, writes=run.writes.drop(columns="slot"))
    audit = audit_writes(damaged, plan)
    assert audit == Unmeasured(reason="the check crashed: KeyError: 'slot'", is_crash=True)
    _, (state, reason) = judge_writes(plan.objectives[0], audit)
    assert (state, reason) == (State.INCONCLUSIVE, audit.reason)


def read_of(copies: str | None) -> AuditRead:
    """A read with the usual statuses."""
    return AuditRead(method="GET", path="/${id}", headers=(), body=None, copies=copies,
                     present=(200,), absent=(404,))  # fmt: skip


def test_an_audit_that_cannot_work_is_refused_with_its_place(tmp_path: Path) -> None:
    """A request that is not there, an id that is not unique or not in the request, a blind read."""
    assert resolve(load_scenario(scenario(tmp_path))).audit is not None
    for changes, where in (
        ({"request": "other"}, "audit.request"),
        ({"id": "w-${run}"}, "audit.id"),
        ({"id": "w-${uuid}-${seq}"}, "audit.id"),
        ({"id": "x-${run}-${seq}"}, "audit.request"),
        ({"read": "/tx"}, "audit.read"),
        ({"read": "/tx/${id}/${seq}"}, "audit.read"),
        ({"over": 'over = "nodes"'}, "audit.read.over"),
    ):
        with pytest.raises(ScenarioError) as caught:
            load_scenario(scenario(tmp_path, **changes))
        assert where in str(caught.value), changes
