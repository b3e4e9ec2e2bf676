"""Faults that wait for what is seen, in a real run: a leader, a recovery, a measure."""

from __future__ import annotations

from pathlib import Path

import pytest
from failover_rig import HAPROXY
from test_failover_embedded import only_run, shortened, start

from loadtests.record.fault_events import FaultEvent, fault_steps
from loadtests.record.manifest import Outcome

pytestmark = [
    pytest.mark.failover,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path(HAPROXY).exists(), reason="needs HAProxy"),
]

MORE = """
[[failover.faults]]
name = "answers"
action = "noop"
on = "all"
when = "throughput > 10 rps for 2 s"

[[failover.faults]]
name = "recovered"
action = "noop"
on = "node node-1"
when = "recovered kill-leader"
at = "500 ms"
"""
LED = """
[[failover.faults]]
name = "led-by-{node}"
action = "noop"
on = "node {node}"
when = "leader is {node}"
"""
NODES = ("node-1", "node-2", "node-3", "node-4")


def test_faults_wait_for_a_leader_a_recovery_and_a_measure(tmp_path: Path) -> None:
    """Who led is struck, and who did not is told never to have been; recovery comes before gone."""
    scenario = shortened(
        tmp_path,
        "failover-full",
        **{
            'at = "22 s"': 'at = "8 s"',
            'undo_after = "20 s"': 'undo_after = "25 s"',
            'duration = "70 s"': 'duration = "32 s"',
            # A noisy machine: what must hold again is that requests succeed.
            '"p95 < 200 ms", "p99 < 500 ms", "error_ratio < 0.1 %"': '"error_ratio < 5 %"',
        },
    )
    more = MORE + "".join(LED.format(node=node) for node in NODES)
    scenario.write_text(scenario.read_text(encoding="utf-8") + more, encoding="utf-8")
    text, _ = start(tmp_path, scenario).communicate()
    run = only_run(tmp_path)
    assert run.manifest.outcome is Outcome.COMPLETE, text
    steps = fault_steps(run.events)

    def at(name: str, kind: FaultEvent) -> int:
        return min(step.at_ns for step in steps if step.fault == name and step.kind is kind)

    killed = at("kill-leader", FaultEvent.APPLIED)
    assert at("answers", FaultEvent.APPLIED) < killed
    recovered = at("recovered", FaultEvent.APPLIED)
    assert killed + 3 * 10**9 < recovered < at("kill-leader", FaultEvent.UNDONE)
    (victim,) = {step.node for step in steps if step.fault == "kill-leader"}
    led = {step.fault.removeprefix("led-by-") for step in steps if step.fault.startswith("led-")}
    assert victim in led
    assert len(led) >= 2, "another led after it"
    never = [e for e in run.events if e.kind == FaultEvent.NEVER_DUE.value]
    assert {str(e.fields["fault"]).removeprefix("led-by-") for e in never} == set(NODES) - led
