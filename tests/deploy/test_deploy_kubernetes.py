"""Kustomize overlays: rendered by kubectl, held to strict schemas, and to what a run needs."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from deployed import (
    DEPLOY,
    INSTALLED,
    OVERLAYS,
    ROOT,
    containers,
    data_of,
    job_specs,
    of_kind,
    parses,
    rendered,
)

from loadtests.nightly.plan import load_nightly
from loadtests.plan.authorisation import load_configuration, refuse_unauthorised
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.plan.units import parse_duration_ns

RUNS = ("smoke", "rest-200")
VERSIONS = ("1.28", "1.33")  # indexed jobs, endPort and timeZone are stable in both


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid_and_has_no_unknown_key(overlay: str, version: str) -> None:
    """By Kubernetes' own schemas, strict: a typo is no default."""
    assert rendered(overlay)
    for one in rendered(overlay):
        kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_refuse_a_typo() -> None:
    """The check can fail: a key in the wrong place is found."""
    job: dict[str, Any] = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}}
    job["spec"] = {"backofLimit": 0, "template": {"spec": {"containers": []}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_job_runs_once_and_ends(overlay: str) -> None:
    """Never again after a failure, never without an end, images by digest alone."""
    specs = dict(job_specs(overlay))
    assert specs
    for spec in specs.values():
        assert spec["backoffLimit"] == 0
        assert spec["activeDeadlineSeconds"] > 0
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        for container in containers(spec):
            assert "@sha256:" in container["image"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_no_rights(overlay: str) -> None:
    """Not root, nothing writable but volumes, no capability, no token of the API server."""
    for _, spec in job_specs(overlay):
        pod = spec["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_cores_are_guaranteed(overlay: str) -> None:
    """Requests equal to limits everywhere, whole CPUs where load is made or merged."""
    for _, spec in job_specs(overlay):
        for container in containers(spec):
            resources = container["resources"]
            assert resources["requests"] == resources["limits"]
            if container["name"] in {"master", "agent", "nightly"}:
                assert str(resources["limits"]["cpu"]).isdigit()


@pytest.mark.parametrize("overlay", RUNS)
def test_the_master_waits_for_exactly_the_agents_that_start(overlay: str) -> None:
    """One number, said three times."""
    agents = of_kind(overlay, "Job")["headroom-agents"]["spec"]
    expected = int(data_of(overlay, "headroom-fleet")["agents"])
    assert agents["completions"] == agents["parallelism"] == expected
    assert agents["completionMode"] == "Indexed"


@pytest.mark.parametrize("overlay", RUNS)
def test_agents_are_apart(overlay: str) -> None:
    """On nodes of their own, away from the master: required, not preferred."""
    for _, spec in job_specs(overlay):
        (term,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        labels = spec["template"]["metadata"]["labels"]
        assert term["labelSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_results_are_on_a_volume_while_they_are_written(overlay: str) -> None:
    """A pod that ends takes no archive along."""
    for name, spec in job_specs(overlay):
        if name == "headroom-agents":
            continue
        volumes = {one["name"]: one for one in spec["template"]["spec"]["volumes"]}
        assert volumes["results"]["persistentVolumeClaim"] == {"claimName": "headroom-results"}
        (main,) = spec["template"]["spec"]["containers"]
        at = {one["name"]: one["mountPath"] for one in main["volumeMounts"]}["results"]
        assert main["args"][main["args"].index("--results") + 1].startswith(at)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_reached_but_what_is_named(overlay: str) -> None:
    """Everything is denied first; only agents reach the master."""
    policies = of_kind(overlay, "NetworkPolicy")
    nothing = policies["headroom-nothing"]["spec"]
    assert set(nothing["policyTypes"]) == {"Ingress", "Egress"}
    assert nothing.keys() == {"podSelector", "policyTypes"}
    (ingress,) = policies["headroom-master"]["spec"]["ingress"]
    (peer,) = ingress["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "agent"
    assert ingress["ports"] == [{"protocol": "TCP", "port": 5557}]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_pods_run_are_commands_of_ours(overlay: str) -> None:
    """Their arguments are read by the command line itself."""
    for name, spec in job_specs(overlay):
        for container in spec["template"]["spec"]["containers"]:
            arguments = [word.replace("$(AGENTS)", "2") for word in container["args"]]
            assert parses(arguments), (name, arguments)


@pytest.mark.parametrize("overlay", RUNS)
def test_an_overlays_scenario_is_the_repositorys_with_other_nodes(
    overlay: str, tmp_path: Path
) -> None:
    """And its own headroom.toml allows what it sends."""
    own = tomllib.loads(data_of(overlay, "headroom-scenario")["scenario.toml"])
    shipped = tomllib.loads((ROOT / "scenarios" / f"{overlay}.toml").read_text("utf-8"))
    assert own["target"].pop("nodes") != shipped["target"].pop("nodes")
    assert own == shipped
    path = DEPLOY / "kubernetes" / "overlays" / overlay / "scenario.toml"
    configuration = tmp_path / "headroom.toml"
    configuration.write_text(data_of(overlay, "headroom-configuration")["headroom.toml"], "utf-8")
    plan = resolve(load_scenario(path))
    refuse_unauthorised(plan, load_configuration(configuration), datetime(2026, 12, 1, tzinfo=UTC))


def test_the_night_is_the_plans() -> None:
    """Schedule, lateness and deadline are those of nightly.toml, in UTC, one at a time."""
    cron = of_kind("nightly", "CronJob")["headroom-nightly"]["spec"]
    plan = tomllib.loads(data_of("nightly", "headroom-nightly")["nightly.toml"])
    hour, minute = map(int, plan["at"].split(":"))
    assert (cron["schedule"], cron["timeZone"]) == (f"{minute} {hour} * * *", "Etc/UTC")
    assert cron["concurrencyPolicy"] == "Forbid"
    assert cron["startingDeadlineSeconds"] * 10**9 == parse_duration_ns(plan["catch_up"])
    deadline_s = cron["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    assert deadline_s * 10**9 >= parse_duration_ns(plan["budget"]["time"]) + 3600 * 10**9


def test_the_nights_plan_is_one(tmp_path: Path) -> None:
    """It is read as `headroom nightly` reads it, from where the image has its scenarios."""
    text = data_of("nightly", "headroom-nightly")["nightly.toml"]
    path = tmp_path / "nightly.toml"
    path.write_text(text.replace(INSTALLED, str(ROOT)), encoding="utf-8")
    plan = load_nightly(path, lambda _scenario, arguments: (len(arguments), 0))
    for step in plan.steps:
        if step.scenario is not None:
            assert step.scenario.exists()
            assert parses(["run", str(step.scenario), *step.arguments])
