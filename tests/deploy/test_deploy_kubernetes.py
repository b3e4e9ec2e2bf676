"""Kustomize overlays: rendered by kubectl, held to strict schemas, and to what a run needs."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterator
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
    run_tool,
)

from loadtests.nightly.plan import load_nightly
from loadtests.plan.authorisation import load_configuration, refuse_unauthorised
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.plan.units import parse_duration_ns
from loadtests.swarm.keys import (
    authorise,
    create_key,
    keys_of_agent,
    keys_of_master,
    load_own_keys,
)

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
def test_names_are_asked_of_the_clusters_name_servers(overlay: str) -> None:
    """Their pods have this label; no other, and none of ours, may be asked of them."""
    (egress,) = of_kind(overlay, "NetworkPolicy")["headroom-names"]["spec"]["egress"]
    assert egress["to"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ]


def selectors(overlay: str) -> Iterator[dict[str, str]]:
    """Labels by which policies, services and their peers choose pods of ours."""
    for policy in of_kind(overlay, "NetworkPolicy").values():
        yield policy["spec"]["podSelector"]["matchLabels"]
        for rule in (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())):
            for peer in (*rule.get("from", ()), *rule.get("to", ())):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield peer["podSelector"]["matchLabels"]
    for service in of_kind(overlay, "Service").values():
        yield service["spec"]["selector"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_chooses_a_pod(overlay: str) -> None:
    """Of this overlay, and of no other program in its namespace: the label of ours is in each."""
    pods = [spec["template"]["metadata"]["labels"] for _, spec in job_specs(overlay)]
    for labels in selectors(overlay):
        assert labels["app.kubernetes.io/name"] == "headroom"
        named = labels.get("app.kubernetes.io/component")
        is_of_runs = named in {"master", "agent"} and overlay == "nightly"  # shared, idle there
        assert is_of_runs or any(labels.items() <= pod.items() for pod in pods), labels


@pytest.mark.parametrize(
    ("component", "address", "port", "is_open"),
    [
        ("nightly", "203.0.113.9", 443, True),
        ("nightly", "203.0.113.9", 80, False),
        ("nightly", "10.0.0.1", 443, False),
        ("nightly", "169.254.169.254", 443, False),
        ("nightly", "192.0.2.10", 9003, True),
        ("nightly-check", "203.0.113.9", 443, False),
    ],
)
def test_a_night_reaches_whom_it_tells(
    component: str, address: str, port: int, *, is_open: bool
) -> None:
    """Messages go over HTTPS to anywhere but networks of one's own, from the night alone."""
    labels = {"app.kubernetes.io/name": "headroom", "app.kubernetes.io/component": component}
    assert may_send("nightly", labels, address, port) is is_open


def may_send(overlay: str, labels: dict[str, str], address: str, port: int) -> bool:
    """Whether policies let a pod open a TCP connection to an address outside of the cluster."""
    for policy in of_kind(overlay, "NetworkPolicy").values():
        spec = policy["spec"]
        if not spec["podSelector"]["matchLabels"].items() <= labels.items():
            continue
        for rule in spec.get("egress", ()):
            ports = [one for one in rule["ports"] if one["protocol"] == "TCP"]
            blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
            is_port = any(one["port"] <= port <= one.get("endPort", one["port"]) for one in ports)
            if is_port and any(is_in(block, address) for block in blocks):
                return True
    return False


def is_in(block: dict[str, Any], address: str) -> bool:
    """An address in a CIDR and in none of its exceptions."""
    one = ipaddress.ip_address(address)
    excepted = map(ipaddress.ip_network, block.get("except", ()))
    return one in ipaddress.ip_network(block["cidr"]) and not any(one in net for net in excepted)


def make_secret(folder: Path, names: tuple[str, ...], peers: dict[str, str]) -> dict[str, str]:
    """What a Secret's volume shows: keys and `authorised` as links into a folder of root's."""
    made = folder / "..data"
    made.mkdir(parents=True, mode=0o700)
    publics = {name: create_key(made, name).public.hex() for name in names}
    for name, public in peers.items():
        authorise(made, name, public)
    for path in made.iterdir():
        path.chmod(0o440)
        (folder / path.name).symlink_to(path)
    return publics


def prepared_keys(
    overlay: str, job: str, secret: Path, volume: Path, index: int = 0
) -> tuple[Path, str]:
    """Runs a pod's init container on an emptyDir as Kubernetes makes one: 2777.

    Returns the folder in which the pod's own container looks for keys, and its key's name.
    """
    volume.mkdir()
    volume.chmod(0o2777)
    pod = of_kind(overlay, "Job")[job]["spec"]["template"]["spec"]
    (init,), (main,) = pod["initContainers"], pod["containers"]
    mounts = {one["name"]: one["mountPath"] for one in main["volumeMounts"]}
    assert "secret" not in mounts
    own = environment(main, index)
    shell, option, script = init["command"]
    script = script.replace("/secret/", f"{secret}/").replace("/keys/", f"{volume}/")
    given = (f"{key}={value}" for key, value in environment(init, index).items())
    done = run_tool("env", *given, shell, option, script)
    assert done.returncode == 0, done.stderr
    return Path(own["HEADROOM_KEYS"].replace(mounts["keys"], str(volume))), own["HEADROOM_KEY"]


def environment(container: dict[str, Any], index: int) -> dict[str, str]:
    """A container's variables, in the pod of this index of its job."""
    values = {one["name"]: one.get("value", str(index)) for one in container.get("env", ())}
    return {name: value.replace("$(INDEX)", str(index)) for name, value in values.items()}


@pytest.mark.parametrize("overlay", RUNS)
def test_keys_are_taken_as_pods_prepare_them(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real check, of the real commands: a folder that others can write is refused.

    An agent's container has its own key and nobody else's.
    """
    masters, agents = tmp_path / "masters", tmp_path / "agents"
    names = ("agent-0", "agent-1")
    publics = make_secret(agents, names, {"master": "ab" * 32})
    make_secret(masters, ("master",), publics)
    folder, name = prepared_keys(overlay, "headroom-master", masters, tmp_path / "of-master")
    monkeypatch.setenv("HEADROOM_KEYS", str(folder))
    found = keys_of_master("0.0.0.0", name)
    assert found is not None
    assert sorted(found.agents.values()) == list(names)
    folder, name = prepared_keys(overlay, "headroom-agents", agents, tmp_path / "of-agent", 1)
    monkeypatch.setenv("HEADROOM_KEYS", str(folder))
    own = keys_of_agent("headroom-master", name)
    assert own is not None
    assert own.own.name == "agent-1"
    assert [key.name for key in load_own_keys(folder)] == ["agent-1"]


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
