"""Authorisation: loopback always, anything else only by an entry that is still valid."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from plan_builders import good_plan, node

from loadtests.errors import ScenarioError, TargetError
from loadtests.plan.authorisation import (
    Configuration,
    authorised_hosts,
    find_configuration,
    load_configuration,
    refuse_unauthorised,
)
from loadtests.plan.model import Plan

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOOD = """
[authorised_targets."api.example.org"]
owner = "payments"
max_rate = "1000 rps"
expires = 2026-11-23

[authorised_targets."10.1.0.0/16"]
owner = "lab"
max_rate = "5000 rps"
expires = 2026-12-31

[authorised_targets."2001:db8::7"]
owner = "lab"
max_rate = "5000 rps"
expires = 2026-11-23T11:00:00Z
"""


def configured(tmp_path: Path, text: str = GOOD) -> Configuration:
    """A configuration read from a file."""
    path = tmp_path / "headroom.toml"
    path.write_text(text, encoding="utf-8")
    return load_configuration(path)


def on(*hosts: str, rate: float = 1000.0) -> Plan:
    """A plan with these nodes, evenly, and this hard ceiling."""
    nodes = tuple(node(f"n{index}", host=host) for index, host in enumerate(hosts))
    return dataclasses.replace(good_plan(), nodes=nodes, max_rate_per_s=rate)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_entry(host: str) -> None:
    """Loopback is allowed at any rate without a configuration."""
    refuse_unauthorised(on(host, rate=1e9), load_configuration(None), NOW)


@pytest.mark.parametrize("host", ["api.example.org", "API.example.org", "10.1.255.7"])
def test_a_listed_host_is_allowed(tmp_path: Path, host: str) -> None:
    """A listed name (whatever its case), or an address of a listed range, is allowed."""
    refuse_unauthorised(on(host), configured(tmp_path), NOW)


@pytest.mark.parametrize(
    "host",
    ["example.org", "xapi.example.org", "api.example.org.evil.test", "10.2.0.1",
     "2001:db8::8", "localhost.evil.test", "127.0.0.1.evil.test"],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path: Path, host: str) -> None:
    """A name or address that is not listed is refused, and the message says what to add."""
    with pytest.raises(TargetError, match="not an authorised target") as caught:
        refuse_unauthorised(on("127.0.0.1", host), configured(tmp_path), NOW)
    assert host in caught.value.expected


def entry(host: str, expires: str = "expires = 2026-12-31") -> str:
    """One that is right but for what is said."""
    return f'[authorised_targets."{host}"]\nowner = "me"\nmax_rate = "5000 rps"\n{expires}\n'


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0", "fd00:ec2::254", "224.0.0.1"]
)
def test_some_addresses_cannot_be_listed(tmp_path: Path, host: str) -> None:
    """Metadata services, link-local and group addresses: no entry helps, nor may it be made."""
    with pytest.raises(ScenarioError, match=r"metadata|no single host") as caught:
        configured(tmp_path, entry(host))
    assert [one.where for one in caught.value.mistakes] == [f'authorised_targets."{host}"']
    everything = configured(tmp_path, entry("0.0.0.0/0") + entry("::/0"))
    with pytest.raises(TargetError, match=r"metadata|no single host"):
        refuse_unauthorised(on(host), everything, NOW)


@pytest.mark.parametrize(
    "host",
    ["", "10.0.0.999", "10.0.0.999/40", "10.0.0.0/33", "http://api.example.net/x",
     "api.example.net:443", "*.example.net", "a b.example.net", "-x.example.net", "[::1]",
     "169.254.0.0/16", "fe80::/10", "fe80::1%eth0", "224.0.0.0/4", "x" * 254],
)  # fmt: skip
def test_an_entry_that_could_never_match_is_a_mistake(tmp_path: Path, host: str) -> None:
    """Found when it is read, with its path, not when a run is refused."""
    with pytest.raises(ScenarioError, match="authorised_targets"):
        configured(tmp_path, entry(host))


@pytest.mark.parametrize(
    "host",
    ["api.example.net", "API.example.net.", "node_1", "10.0.0.7", "10.0.0.0/8", "10.1.2.3/16",
     "2001:db8::/32", "::ffff:10.0.0.7", "localhost", "127.0.0.0/8", "xn--bcher-kva.example"],
)  # fmt: skip
def test_an_entry_may_be_a_name_an_address_or_a_range(tmp_path: Path, host: str) -> None:
    """In whatever form people write them."""
    assert len(configured(tmp_path, entry(host)).targets) == 1


def test_only_loopback_is_for_ever(tmp_path: Path) -> None:
    """What somebody agreed to once is asked again: an entry has its last day."""
    for host in ("localhost", "127.0.0.1", "127.0.0.0/8", "::1"):
        assert configured(tmp_path, entry(host, "")).targets[0].expires is None
    for host in ("api.example.net", "10.0.0.7", "10.0.0.0/8"):
        with pytest.raises(ScenarioError) as caught:
            configured(tmp_path, entry(host, ""))
        (mistake,) = caught.value.mistakes
        assert mistake.where == f'authorised_targets."{host}".expires'
        assert mistake.expected.startswith("a date such as 2026-12-31")


def test_an_entry_must_last_to_the_end_of_the_plan(tmp_path: Path) -> None:
    """A run that would go on after its authorisation has ended is not begun."""
    plan = on("api.example.org")
    end = datetime(2026, 11, 24, tzinfo=UTC)
    length = timedelta(microseconds=plan.duration_ns / 1000)
    refuse_unauthorised(plan, configured(tmp_path), end - length - timedelta(seconds=1))
    with pytest.raises(TargetError, match="expired"):
        refuse_unauthorised(plan, configured(tmp_path), end - length / 2)


@pytest.mark.parametrize("proof", ['""', '"short"', "7", "true"])
def test_a_proof_is_long_enough_to_be_one(tmp_path: Path, proof: str) -> None:
    """A token that a page may hold by chance proves nothing."""
    with pytest.raises(ScenarioError, match="a token of 16 characters"):
        configured(tmp_path, GOOD + f"proof = {proof}\n")


def test_an_entry_expires(tmp_path: Path) -> None:
    """A date allows its whole day in UTC; a time ends at that time."""
    configuration = configured(tmp_path)
    refuse_unauthorised(on("api.example.org"), configuration, NOW + timedelta(hours=11))
    for host, now in (
        ("api.example.org", NOW + timedelta(hours=12)),
        ("2001:db8::7", NOW),
    ):
        with pytest.raises(TargetError, match="expired"):
            refuse_unauthorised(on(host), configuration, now)
    assert authorised_hosts(configuration, NOW) == ("api.example.org", "10.1.0.0/16")
    assert authorised_hosts(configuration, NOW + timedelta(days=1)) == ("10.1.0.0/16",)


def test_the_ceiling_of_an_entry_covers_all_its_nodes(tmp_path: Path) -> None:
    """Nodes of one entry share its max_rate; loopback's part does not count."""
    configuration = configured(tmp_path)
    refuse_unauthorised(on("10.1.0.1", "10.1.0.2", rate=5000.0), configuration, NOW)
    refuse_unauthorised(on("10.1.0.1", "127.0.0.1", rate=10_000.0), configuration, NOW)
    with pytest.raises(TargetError, match="at most 5000"):
        refuse_unauthorised(on("10.1.0.1", "10.1.0.2", rate=5001.0), configuration, NOW)


def test_the_first_file_counts_alone(tmp_path: Path) -> None:
    """$HEADROOM_CONFIG, then the working folder, then the home folder."""
    folder, home = tmp_path / "here", tmp_path / "home"
    (home / ".config" / "headroom").mkdir(parents=True)
    folder.mkdir()
    assert find_configuration({}, folder=folder, home=home) is None
    user = home / ".config" / "headroom" / "headroom.toml"
    user.touch()
    assert find_configuration({}, folder=folder, home=home) == user
    local = folder / "headroom.toml"
    local.touch()
    assert find_configuration({}, folder=folder, home=home) == local
    named = {"HEADROOM_CONFIG": str(tmp_path / "none.toml")}
    assert find_configuration(named, folder=folder, home=home) == tmp_path / "none.toml"
    with pytest.raises(ScenarioError, match="does not exist"):
        load_configuration(tmp_path / "none.toml")


def test_all_mistakes_of_a_configuration_are_reported_at_once(tmp_path: Path) -> None:
    """Unknown keys, missing owners, wrong rates and dates are named with their entries."""
    text = """
authorized_targets = 1
[authorised_targets."a.test"]
owner = ""
max_rate = "much"
expires = 2026-11-23T11:00:00
ownr = "x"
[authorised_targets]
b = 5
"""
    text = text.replace(
        "[authorised_targets]\nb = 5\n", '[authorised_targets."c.test"]\nowner = 1\n'
    )
    with pytest.raises(ScenarioError) as caught:
        configured(tmp_path, text)
    assert [mistake.where for mistake in caught.value.mistakes] == [
        "authorized_targets",
        'authorised_targets."a.test".ownr',
        'authorised_targets."a.test".owner',
        'authorised_targets."a.test".max_rate',
        'authorised_targets."a.test".expires',
        'authorised_targets."c.test".owner',
        'authorised_targets."c.test".max_rate',
        'authorised_targets."c.test".expires',
    ]


@pytest.mark.parametrize("text", ["x = [", "authorised_targets = 5", "[authorised_targets]\na = 1"])
def test_a_broken_configuration_allows_nothing(tmp_path: Path, text: str) -> None:
    """A file that is not understood is refused as a whole."""
    with pytest.raises(ScenarioError):
        configured(tmp_path, text)
