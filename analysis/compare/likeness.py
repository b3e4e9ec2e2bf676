"""Whether two runs may be compared, and in which aspects they differ.

A difference of two runs is the target's only if nothing else differed. So load, scale, mix,
stages, hosts, generator and the target's nodes have to be the same, and both runs sound;
each aspect that is not is named with what was seen on both sides, and has to be allowed by
name. What is *meant* to differ, the target's version and the commit, is stated and never
refused: to compare two versions is what this is for. So are things that change nothing: host
names, seeds, names of agents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from analysis.compare.subject import AnySubject, FiledSubject, Subject
from analysis.judging import State
from analysis.load_identity import load_identity_of
from analysis.text import scale_text
from loadtests.plan.model import Plan, Stage
from loadtests.plan.units import format_duration
from loadtests.record.manifest import HostFacts, Outcome

_GIB: Final = 1 << 30
# Packages of the generator whose version moves what is measured.
_GENERATOR: Final = ("headroom", "locust", "gevent", "uvloop", "httptools", "numpy")


class Aspect(Enum):
    """What has to be the same on both sides; the value is the word of `--allow`."""

    LOAD = "load"  # model, arrivals, connections
    SCALE = "scale"
    STAGES = "stages"  # names, lengths, rates
    MIX = "mix"  # requests, protocols, weights
    HOSTS = "hosts"  # number, cores, CPU, memory, kernel, Python
    GENERATOR = "generator"  # engines, versions of what measures
    NODES = "nodes"  # how many nodes of the target, by which scheme
    VERDICT = "verdict"  # INCONCLUSIVE, limited by the generator, not run to its end


class Statement(Enum):
    """What may differ and is said."""

    TARGET_VERSION = "target version"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlike:
    """One aspect that differs, with what was seen before and after."""

    aspect: Aspect | Statement
    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.aspect.value}: {self.what} {self.before} and {self.after}"


Facts = dict[tuple[Aspect | Statement, str], str]
_MIX_DIGEST: Final = (Aspect.MIX, "what requests send (SHA-256)")
_LOAD_DIGEST: Final = (Aspect.STAGES, "load over time (SHA-256)")
_DIGITS: Final = 16


def unlike(before: AnySubject, after: AnySubject) -> tuple[Unlike, ...]:
    """Every aspect known of both that differs, in the order of `Aspect`."""
    seen, other = facts_of(before), facts_of(after)
    if not any(isinstance(subject, FiledSubject) for subject in (before, after)):
        seen.pop(_LOAD_DIGEST, None)  # the stages and the model themselves are compared
    return tuple(
        Unlike(aspect=key[0], what=key[1], before=seen[key], after=other[key])
        for key in seen
        if key in other and seen[key] != other[key]
    )


def unsound(subject: AnySubject) -> str | None:
    """Why a run measured nothing that may be compared; None for a sound one."""
    if isinstance(subject, FiledSubject):
        return None  # promotion has refused those that are not
    verdict = subject.verdict
    because = verdict.reasons[0] if verdict.reasons else "no reason stated"
    if not verdict.is_complete or verdict.outcome is not Outcome.COMPLETE:
        return f"ended {verdict.outcome.value}: {because}"
    if verdict.is_generator_limited:
        return f"the generator was the limit: {because}"
    if verdict.state is State.INCONCLUSIVE:
        return f"INCONCLUSIVE: {because}"
    return None


def facts_of(subject: AnySubject) -> Facts:
    """All that is known of a run, as text by aspect."""
    return dict(_filed(subject) if isinstance(subject, FiledSubject) else _archived(subject))


def _filed(subject: FiledSubject) -> Iterator[tuple[tuple[Aspect | Statement, str], str]]:
    baseline = subject.baseline
    yield (Aspect.LOAD, "model"), baseline.load_model
    yield (Aspect.SCALE, "rates"), scale_text(baseline.scale) or "unscaled"
    if baseline.mix_sha256 is not None and baseline.load_sha256 is not None:
        yield _MIX_DIGEST, baseline.mix_sha256[:_DIGITS]
        yield _LOAD_DIGEST, baseline.load_sha256[:_DIGITS]
    yield (Aspect.HOSTS, "number of hosts"), str(baseline.hosts)
    yield (Statement.TARGET_VERSION, ""), str(baseline.target_version)
    yield (Statement.COMMIT, ""), str(baseline.git_commit)


def _archived(subject: Subject) -> Iterator[tuple[tuple[Aspect | Statement, str], str]]:
    plan, manifest = subject.plan, subject.run.manifest
    agents = manifest.agents
    yield from (((Aspect.LOAD, what), text) for what, text in _load(plan))
    yield (Aspect.SCALE, "rates"), scale_text(plan.scale) or "unscaled"
    for stage in plan.stages:
        yield (Aspect.STAGES, f"stage {stage.name}"), _stage(stage)
    yield (Aspect.STAGES, "names"), ", ".join(stage.name for stage in plan.stages)
    yield (Aspect.MIX, "requests"), _mix(plan)
    identity = load_identity_of(plan)
    yield _MIX_DIGEST, identity.mix_sha256[:_DIGITS]
    yield _LOAD_DIGEST, identity.load_sha256[:_DIGITS]
    yield (Aspect.HOSTS, "number of hosts"), str(len({agent.host.hostname for agent in agents}))
    yield (Aspect.HOSTS, "machines"), _counted(_machine(agent.host) for agent in agents)
    yield (Aspect.HOSTS, "kernel"), _counted(agent.host.kernel for agent in agents)
    yield (Aspect.HOSTS, "Python"), _counted(agent.host.python for agent in agents)
    yield (Aspect.GENERATOR, "engines"), str(sum(agent.engines for agent in agents))
    for name in _GENERATOR:
        versions = _counted(agent.versions.get(name, "?") for agent in agents)
        yield (Aspect.GENERATOR, name), versions
    yield (Aspect.NODES, "nodes"), _counted(node.scheme for node in plan.nodes)
    yield (Statement.TARGET_VERSION, ""), str(manifest.target_version)
    yield (Statement.COMMIT, ""), str(manifest.git_commit)


def _load(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "model", plan.load_model.value
    yield "arrivals", plan.arrival_process.value
    yield "connections", str(plan.connections)
    yield "channels", f"{plan.multiplexing.connections} of {plan.multiplexing.streams} streams"
    yield "pipelining", str(plan.pipelining)
    yield "think time", format_duration(plan.think_time_ns)
    yield "in-flight limit", str(plan.in_flight_limit)


def _stage(stage: Stage) -> str:
    length = format_duration(stage.end_ns - stage.start_ns)
    profile = msgspec.json.encode(stage.profile).decode()
    return f"{length} of {profile}{'' if stage.is_judged else ', not judged'}"


def _mix(plan: Plan) -> str:
    total = sum(request.weight for request in plan.requests) or 1.0
    return ", ".join(
        f"{request.name} ({request.method} {request.path}, {request.protocol.value}, "
        f"{request.weight / total:.4g})"
        for request in plan.requests
    )


def _machine(host: HostFacts) -> str:
    return f"{host.cores} cores of {host.cpu_model}, {host.memory_bytes / _GIB:.0f} GiB"


def _counted(words: Iterator[str]) -> str:
    """Each word with how often it occurs, where that is not once."""
    counts = sorted(Counter(words).items())
    return ", ".join(word if n == 1 else f"{n} x {word}" for word, n in counts)
