"""Acknowledged writes of a real etcd, audited: its leader dies, and somebody deletes keys."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd_rig import ETCD, EtcdRig, etcd_running
from failover_rig import HAPROXY
from test_failover_embedded import only_run, start

from analysis.judging import State
from analysis.recovery.writes import WriteAudit, audit_writes
from analysis.verdict import judge, plan_of
from loadtests.failover.asking import ask
from loadtests.record.archive import Run
from loadtests.record.manifest import Outcome

pytestmark = [
    pytest.mark.failover,
    pytest.mark.timeout(300),
    pytest.mark.skipif(ETCD is None, reason="needs etcd (Debian: etcd-server)"),
    pytest.mark.skipif(not Path(HAPROXY).exists(), reason="needs HAProxy"),
]

# A key is base64 in etcd's JSON: an id of 28 letters and digits is base64 itself.
ID = "hdrm${run}${seq:12}"
AUDIT = f"""
[audit]
request = "rest-put"
id = "{ID}"
rate = "2000 rps"
[audit.read]
method = "POST"
path = "/v3/kv/range"
headers = {{ Content-Type = "application/json" }}
body = '{{"key":"${{id}}"}}'
copies = "/count"
over = "nodes"
[failover]
"""
KILL = (
    '[[failover.faults]]\nname = "kill"\naction = "kill"\non = "leader"\nat = "6 s"\n'
    'undo_after = "5 s"\n'
)
ALL = {"key": "hdrm", "range_end": "hdrn"}  # what begins so, in etcd's order
DELETED = 3


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdRig]:
    """One cluster for all."""
    with etcd_running(tmp_path_factory.mktemp("etcd")) as rig:
        yield rig


def audited(etcd: EtcdRig, folder: Path) -> tuple[Run, list[str]]:
    """A run with its leader killed, and the keys that somebody deleted under way."""
    etcd.wait_whole()
    text = etcd.scenario("audited", KILL, 12)
    key = base64.b64encode(b"foo").decode()
    text = text.replace(f'"key":"{key}"', f'"key":"{ID}"').replace("\n[failover]\n", AUDIT)
    text = text.replace('"error_ratio < 2 %"', '"error_ratio < 2 %", "lost_writes == 0"')
    scenario = folder / "audited.toml"
    scenario.write_text(text)
    configuration = folder / "headroom.toml"
    configuration.write_text(
        '[authorised_targets."10.77.0.0/24"]\nowner = "the test"\nmax_rate = "5000 rps"\n'
        "expires = 2099-12-31\n"
    )
    target = f"http://127.0.0.1:{etcd.rest},grpc=http://127.0.0.1:{etcd.grpc}"
    process = start(folder, scenario, {"HEADROOM_CONFIG": str(configuration)}, target=target)
    deleted = delete_some(etcd, process)
    out, _ = process.communicate()
    run = only_run(folder)
    assert run.manifest.outcome is Outcome.COMPLETE, out
    return run, deleted


def delete_some(etcd: EtcdRig, process: subprocess.Popen[str]) -> list[str]:
    """Take the first keys out as soon as they are there: they were acknowledged."""
    at = f"http://{etcd.clients[etcd.leader()]}"
    while process.poll() is None:
        body = json.dumps({**ALL, "limit": 40, "keys_only": True})
        _, answer = ask(at, "/v3/kv/range", 2.0, method="POST", body=body)
        found = [one["key"] for one in json.loads(answer).get("kvs", [])]
        if len(found) > DELETED * 3:
            for key in found[:DELETED]:
                ask(at, "/v3/kv/deleterange", 2.0, method="POST", body=json.dumps({"key": key}))
            return found[:DELETED]
        time.sleep(0.2)
    return []


def audit_of(run: Run) -> WriteAudit:
    """The run's audit."""
    audit = audit_writes(run, plan_of(run))
    assert isinstance(audit, WriteAudit)
    return audit


def test_no_write_is_lost_with_the_leader_but_those_that_somebody_deletes(
    etcd: EtcdRig, tmp_path: Path
) -> None:
    """The leader dies, and three keys vanish behind the clients' back: these and no others."""
    run, deleted = audited(etcd, tmp_path)
    assert len(deleted) == DELETED
    audit = audit_of(run)
    assert sorted(audit.lost.examples) == sorted(deleted)
    assert audit.lost.number == DELETED
    assert (audit.resurrected.number, audit.duplicated.number, audit.gaps) == (0, 0, ())
    assert audit.acknowledged > 100
    (found,) = [one for one in judge(run).objectives if one.objective == "lost_writes == 0"]
    assert found.state is State.FAIL
    assert all(key in found.reason for key in deleted)
    assert run.read_back is not None
    assert all(len(names.split(", ")) == 2 for names in run.read_back["node"])
    assert set(run.read_back["id"].str.len()) == {28}
