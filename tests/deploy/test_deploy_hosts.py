"""systemd units, host settings, cloud-init, install script: as their own tools read them."""

from __future__ import annotations

import json
import re
import shlex
import stat
import subprocess
import tomllib
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployed import (
    BIN,
    DEPLOY,
    INSTALLED,
    PROGRAM,
    ROOT,
    parsed,
    parses,
    run_tool,
    settings,
    tool,
    units,
)

from loadtests.commands.dispatch import dispatch
from loadtests.plan.host_types import load_host_types
from loadtests.plan.units import parse_duration_ns

PLAN = tomllib.loads((ROOT / "scenarios" / "nightly.toml").read_text(encoding="utf-8"))
EXPOSURE = 2.5  # of systemd-analyze security: 0 is best, below 5 is "OK"
# Of Debian's cloud-init 22.4.2-1+deb12u4, as it is (GPL-3 or Apache-2.0).
CLOUD_INIT_SCHEMA = Path(__file__).parent / "schemas" / "cloud-config-22.4.2.json"
CLOUD_INITS = sorted((DEPLOY / "aws").glob("*.cloud-init.yaml"))


def test_units_are_valid(tmp_path: Path) -> None:
    """`systemd-analyze verify` of copies whose program is this environment's."""
    analyze = tool("systemd-analyze")
    copies = []
    for unit in (*units("service"), *units("timer")):
        copy = tmp_path / unit.name
        text = unit.read_text(encoding="utf-8").replace(PROGRAM, str(BIN / "headroom"))
        copy.write_text(text.replace(INSTALLED, str(ROOT)), encoding="utf-8")
        copies.append(str(copy))
    assert len(copies) == 5
    done = run_tool(analyze, "--man=no", "verify", *copies)
    own = [line for line in done.stderr.splitlines() if "headroom" in line]
    assert (done.returncode, own) == (0, [])


@pytest.mark.parametrize("unit", units("service"), ids=lambda unit: unit.stem)
def test_services_are_locked_in(unit: Path) -> None:
    """Exposure as systemd counts it."""
    done = run_tool(tool("systemd-analyze"), "security", "--offline=true", str(unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE


@pytest.mark.parametrize("unit", units("timer"), ids=lambda unit: unit.stem)
def test_timers_are_in_utc_and_catch_up(unit: Path) -> None:
    """What systemd makes of them, whatever the machine's zone."""
    own = settings(unit)
    assert own["Persistent"] == ["true"]
    (when,) = own["OnCalendar"]
    done = run_tool(tool("systemd-analyze"), "calendar", when)
    assert done.returncode == 0, done.stderr
    assert "UTC" in next(line for line in done.stdout.splitlines() if "Normalized" in line)
    if unit.stem == "headroom-nightly":
        assert when == f"*-*-* {PLAN['at']}:00 UTC"


@pytest.mark.parametrize("unit", units("service"), ids=lambda unit: unit.stem)
def test_what_services_run_are_commands_of_ours(unit: Path) -> None:
    """Read by the command line; test_deploy_install.py runs those that only look."""
    (line,) = settings(unit)["ExecStart"]
    program, *arguments = shlex.split(line.replace("${HEADROOM_MASTER}", "192.0.2.1:5557"))
    assert program == PROGRAM
    assert parses(arguments)


def test_a_night_may_take_what_its_budget_says() -> None:
    """Systemd does not end it before: the budget, and an hour for what follows."""
    (limit,) = settings(DEPLOY / "systemd" / "headroom-nightly.service")["TimeoutStartSec"]
    assert limit.endswith("h")
    hours = int(limit.removesuffix("h"))
    assert hours * 3600 * 10**9 >= parse_duration_ns(PLAN["budget"]["time"]) + 3600 * 10**9


def sysctls() -> dict[str, str]:
    """Keys and values of the host's settings."""
    text = (DEPLOY / "host" / "90-headroom.conf").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {key.strip(): value.strip() for key, value in (line.split("=", 1) for line in lines)}


def test_every_value_has_its_reason() -> None:
    """A comment stands above each setting of the host."""
    for name in ("90-headroom.conf", "headroom.limits"):
        text = (DEPLOY / "host" / name).read_text(encoding="utf-8")
        for paragraph in text.split("\n\n"):
            lines = paragraph.strip().splitlines()
            if any(not line.startswith("#") for line in lines):
                assert lines[0].startswith("# "), lines


def test_settings_are_the_kernels() -> None:
    """Names that this kernel has; some are of the host's own namespace and not seen in another."""
    known = [key for key in sysctls() if (Path("/proc/sys") / key.replace(".", "/")).exists()]
    missing = set(sysctls()) - set(known)
    assert missing <= {"net.core.netdev_max_backlog", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
    assert len(known) >= 6


def test_limits_agree_everywhere() -> None:
    """What `headroom size` computes with is what hosts, units and containers are given."""
    limits = load_host_types(ROOT / "scenarios" / "costs" / "aws-hosts.toml").limits
    low, high = map(int, sysctls()["net.ipv4.ip_local_port_range"].split())
    assert high - low + 1 == limits.ports
    assert limits.descriptors <= int(sysctls()["fs.nr_open"]) <= int(sysctls()["fs.file-max"])
    text = (DEPLOY / "host" / "headroom.limits").read_text(encoding="utf-8")
    assert re.findall(r"nofile\s+(\d+)", text) == [str(limits.descriptors)] * 2
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    for service in compose["services"].values():
        assert set(service["ulimits"]["nofile"].values()) == {limits.descriptors}
    for unit in ("headroom-nightly.service", "headroom-worker.service"):
        own = settings(DEPLOY / "systemd" / unit)
        assert own["LimitNOFILE"] == [str(limits.descriptors)]


def test_the_install_script_is_sound(tmp_path: Path) -> None:
    """Shellcheck finds nothing; without a role it says what it takes and does nothing."""
    script = DEPLOY / "host" / "install.sh"
    for one in (script, DEPLOY / "host" / "as-headroom"):
        assert one.stat().st_mode & stat.S_IXUSR
        done = run_tool(tool("shellcheck"), "--severity=style", str(one))
        assert (done.returncode, done.stdout) == (0, "")
    for arguments in ((), ("everything",)):
        done = run_tool("bash", str(script), *arguments, cwd=tmp_path)
        assert (done.returncode, "usage:" in done.stderr) == (2, True)


def test_the_install_script_copies_what_there_is() -> None:
    """Parts of the repository, units and files that it names exist."""
    text = (DEPLOY / "host" / "install.sh").read_text(encoding="utf-8")
    found = re.search(r"for part in ([^;]+);", text)
    assert found is not None
    assert all((ROOT / part).exists() for part in found[1].split())
    named = re.findall(r"headroom-[a-z-]+\.(?:service|timer)", text)
    assert set(named) == {unit.name for kind in ("service", "timer") for unit in units(kind)}
    for path in re.findall(r"\$source_folder/(deploy/[a-z0-9./-]+\w)", text):
        assert (ROOT / path).exists(), path


def written(path: Path) -> dict[str, str]:
    """Files that a cloud-init file writes, by the name at their end."""
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {Path(file["path"]).name: file["content"] for file in config["write_files"]}


def own_command(script: str) -> list[str]:
    """Words of the one `headroom` that a script runs as the units do."""
    (own,) = re.findall(r"/as-headroom headroom (.*?) \|\|", script.replace("\\\n", " "))
    return shlex.split(own)


@pytest.mark.parametrize("path", CLOUD_INITS, ids=lambda path: path.stem)
def test_cloud_hosts_may_run_the_shipped_scenarios(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the target that the master's script gives: `headroom check` finds no mistake."""
    run = own_command(written(DEPLOY / "aws" / "master.cloud-init.yaml")["headroom-once"])
    given = parsed(run)
    assert given is not None
    configuration = tmp_path / "headroom.toml"
    configuration.write_text(written(path)["headroom.toml"], encoding="utf-8")
    monkeypatch.setenv("HEADROOM_CONFIG", str(configuration))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # nobody's calibration
    shipped = [str(one) for one in sorted((ROOT / "scenarios").glob("*-[12][05]0.toml"))]
    assert len(shipped) == 7
    hosts = ("--hosts", str(given.expect_workers), "--target", *given.target)
    stdout = StringIO()
    dispatch(["check", *shipped, *hosts, "--json"], stdout, StringIO())
    for document in json.loads(stdout.getvalue()):
        assert document["mistakes"] == [], document["scenario"]
        assert document["plan"] is not None


@pytest.mark.parametrize("path", CLOUD_INITS, ids=lambda path: path.stem)
def test_a_cloud_host_ends_itself_before_anything_can_fail(path: Path, tmp_path: Path) -> None:
    """Its first command is its end; scripts are sound, and paths of the checkout exist."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#cloud-config\n")
    config: dict[str, Any] = yaml.safe_load(text)
    assert config["runcmd"][0][0] == "systemd-run"
    assert config["runcmd"][0][-2:] == ["systemctl", "poweroff"]
    for command in config["runcmd"]:
        for word in command:
            if word.startswith("/usr/src/headroom/"):
                assert (ROOT / word.removeprefix("/usr/src/headroom/")).exists()
    for file in config["write_files"]:
        if file["content"].startswith("#!"):
            script = tmp_path / "script"
            script.write_text(file["content"], encoding="utf-8")
            done = run_tool(tool("shellcheck"), str(script))
            assert (done.returncode, done.stdout) == (0, "")
            assert parses(own_command(file["content"]))
        elif file["path"].endswith(".toml"):
            tomllib.loads(file["content"])


def by_cloud_inits_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """As `cloud-init schema` looks at user data, without its package: that configures hosts."""
    schema = ("--schemafile", str(CLOUD_INIT_SCHEMA))
    return run_tool(tool("check-jsonschema"), *schema, str(path))


@pytest.mark.parametrize("path", CLOUD_INITS, ids=lambda path: path.stem)
def test_cloud_init_takes_them(path: Path) -> None:
    """By its own schema."""
    done = by_cloud_inits_schema(path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("package_update: true", "package_update: perhaps"),
        ("  servers:\n", "  server:\n"),
        ('permissions: "0644"', "permissions: 0644"),
        ("  - path: /etc/headroom/headroom.toml", "  - paths: /etc/headroom/headroom.toml"),
    ],
)
def test_cloud_inits_schema_refuses_a_mistake(tmp_path: Path, before: str, after: str) -> None:
    """The check can fail: a wrong type and a key that does not exist are found."""
    text = CLOUD_INITS[0].read_text(encoding="utf-8")
    assert before in text
    path = tmp_path / "user-data.yaml"
    path.write_text(text.replace(before, after), encoding="utf-8")
    assert by_cloud_inits_schema(path).returncode == 1
