"""The manifest of a run: the draft before load, the facts of the barrier, the end.

Pure composition of what others know: the plan, the host, the coordinator's account. What
is not known yet stays None or empty; nothing is guessed.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from loadtests.plan.codec import plan_hash
from loadtests.plan.model import Plan
from loadtests.record.archive import new_run_id
from loadtests.record.facts import git_commit, host_facts, package_versions
from loadtests.record.manifest import SCHEMA_VERSION, Manifest, Outcome, StageFacts
from loadtests.swarm.accounting import Account


def draft_manifest(
    plan: Plan,
    plan_bytes: bytes,
    *,
    command: tuple[str, ...],
    target_version: str | None,
    warnings: tuple[str, ...],
) -> Manifest:
    """What is known before the first agent joins."""
    now_unix_ns = time.time_ns()
    return Manifest(
        schema_version=SCHEMA_VERSION,
        run_id=new_run_id(plan.scenario_name, now_unix_ns),
        scenario_name=plan.scenario_name,
        scenario_text=plan.scenario_text,
        plan_sha256=plan_hash(plan_bytes),
        seed=plan.seed,
        scale=plan.scale,
        load_model=plan.load_model.value,
        t0_unix_ns=None,
        created_unix_ns=now_unix_ns,
        finished_unix_ns=None,
        stages=tuple(
            StageFacts(
                name=stage.name,
                start_ns=stage.start_ns,
                end_ns=stage.end_ns,
                is_judged=stage.is_judged,
            )
            for stage in plan.stages
        ),
        requests=plan.slots.requests,
        nodes=plan.slots.nodes,
        command=command,
        host=host_facts(),
        versions=package_versions(),
        git_commit=git_commit(Path.cwd()),
        target_version=target_version,
        agents=(),
        engine_sums=(),
        total_sums=None,
        lost_windows=(),
        warnings=warnings,
        outcome=Outcome.RUNNING,
        outcome_reason="",
        events=0,
        checksums={},
    )


def with_account(draft: Manifest, account: Account) -> Manifest:
    """The draft with the books as they stand; it stays a draft."""
    return msgspec.structs.replace(
        draft,
        agents=account.agents,
        engine_sums=account.engine_sums,
        total_sums=account.total_sums,
        lost_requests=account.lost_requests,
        lost_windows=account.lost_windows,
        warnings=draft.warnings + account.warnings,
    )


def finished_manifest(
    draft: Manifest, account: Account, *, outcome: Outcome, reason: str
) -> Manifest:
    """The manifest of a run that is over."""
    return msgspec.structs.replace(
        with_account(draft, account),
        finished_unix_ns=time.time_ns(),
        outcome=outcome,
        outcome_reason=reason,
    )
