"""`headroom size`: a rate, a calibration and prices become ranges of hosts."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
from pathlib import Path

import msgspec
import pytest

from analysis.capacity.search.bounds import Bound
from analysis.capacity.search.decide import Ending
from analysis.capacity.search.pages import LONGEST_LINE, to_page
from analysis.capacity.search.result import SearchResult, Subject, build_result
from analysis.capacity.search.settings import Settings
from analysis.tables import to_rows
from analysis.text import markdown_cell
from loadtests.cli import main
from loadtests.commands import capacity_search
from loadtests.commands.calibration import (
    Calibration,
    ProtocolCost,
    costs_by_kind,
    store_calibration,
)
from loadtests.commands.capacity_space import Space, build_space
from loadtests.commands.capacity_trials import hosts_of
from loadtests.commands.preparation import build_plan
from loadtests.commands.size import HOST_TYPES, demand_of, hosts_at, traffic_of
from loadtests.errors import ExitCode
from loadtests.plan.host_types import load_host_types
from loadtests.plan.stages import peak_level

SMOKE = Path(__file__).resolve().parents[2] / "scenarios" / "smoke.toml"
COST = ProtocolCost(
    request_ns=11_000.0,
    request_ns_low=11_000.0,
    request_ns_high=12_500.0,
    saturation_per_s=20_000.0,
    mix_request_ns=16_000.0,
    sent_bytes=180.0,
    received_bytes=620.0,
)


def call(*arguments: str) -> tuple[ExitCode, str, str]:
    """Exit code, standard output, standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    return main(arguments, stdout, stderr), stdout.getvalue(), stderr.getvalue()


@pytest.fixture
def calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """REST alone was calibrated, elsewhere; this machine never was."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "elsewhere.json"
    measured = Calibration(measured_unix_ns=1_790_000_000 * 10**9, cores=2, http1=COST)
    path.write_bytes(msgspec.json.encode(measured))
    return str(path)


def size(calibration: str, *arguments: str) -> tuple[ExitCode, str, str]:
    """At the requirement's 200 %."""
    return call("size", "--rate", "1552000", "--calibration", calibration, *arguments)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("measured_unix_ns", "999999999999999999999"),
        ("measured_unix_ns", "-1"),
        ("cores", "0"),
        ("http1.request_ns", "1e308"),
        ("http1.request_ns", "-5.0"),
        ("http1.request_ns_high", "0.0"),
        ("http1.request_ns_low", "13000.0"),  # above the highest
        ("http1.mix_request_ns", "-1.0"),
        ("http1.sent_bytes", "-1.0"),
        ("http1.saturation_per_s", "1e300"),
    ],
)
def test_a_calibration_that_cannot_be_is_a_mistake(calibration: str, path: str, value: str) -> None:
    """Named by its field, exit code 2: no traceback, no nonsense."""
    file = Path(calibration)
    document = json.loads(file.read_text(encoding="utf-8"))
    *parents, field = path.split(".")
    part = document
    for parent in parents:
        part = part[parent]
    part[field] = json.loads(value)
    file.write_text(json.dumps(document), encoding="utf-8")
    code, out, err = size(calibration, "--protocol", "rest")
    assert (code, out) == (ExitCode.USAGE, "")
    assert "--calibration" in err
    assert field in err


def test_rest_at_200_percent(calibration: str) -> None:
    """Ranges from the cheapest constant request to the dearest, the mix: 19 to 28 engines."""
    code, out, _ = size(calibration, "--protocol", "rest")
    assert code is ExitCode.PASS
    assert "1,552,000 requests/s" in out
    assert "11.0 us to 16.0 us" in out
    assert "310,400" in out  # 1,552,000/s x 200 ms
    assert "19 to 28" in out
    assert "calibrated on 2026-09-21" in out
    assert "note: prices and bandwidths as of" in out


def test_the_same_as_json(calibration: str) -> None:
    """Numbers with their units in their names, one entry a type."""
    code, out, _ = size(calibration, "--protocol", "rest", "--json")
    document = json.loads(out)
    assert code is ExitCode.PASS
    assert document["demand"]["traffic"]["request_ns"] == {"high": 16_000.0, "low": 11_000.0}
    first = document["hosts"][0]
    assert (first["type_name"], first["engines"]) == ("c6i.4xlarge", {"high": 28, "low": 19})
    assert first["hosts"] == {"high": 2, "low": 2}


def test_more_nodes_take_fewer_ports(calibration: str) -> None:
    """Connections are divided among the nodes that are named."""
    nodes = [f"--target=http://127.0.0.1:{port}" for port in range(9000, 9008)]
    _, out, _ = size(calibration, "--protocol", "rest", "--json", *nodes)
    assert json.loads(out)["demand"]["to_one_node"] == 40_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--protocol", "grpc"), "no calibrated cost of gRPC"),
        (("--scenario", "scenarios/calibration.toml"), "expected open load"),
        (("--protocol", "rest", "--hosts", "/nowhere.toml"), "/nowhere.toml"),
        (("--protocol", "rest", "--rate", "1e15"), "--rate: saw 1e+15 requests/s; expected at"),
    ],
)
def test_mistakes_are_named(calibration: str, arguments: tuple[str, ...], said: str) -> None:
    """What is missing, and what would be needed."""
    code, _, err = size(calibration, *arguments)
    assert code is ExitCode.USAGE
    assert said in err


def test_a_search_names_hosts_where_this_machine_was_calibrated(calibration: str) -> None:
    """For the rate that it found; of kinds that nobody measured a sentence with the command."""
    rest = build_plan(SMOKE, scale=10.0, seed=None, targets=())
    missing = hosts_at(rest, 2000.0)
    assert isinstance(missing, str)
    assert "this machine has no calibration; `headroom calibrate` measures one" in missing
    store_calibration(msgspec.json.decode(Path(calibration).read_bytes(), type=Calibration))
    table = hosts_at(rest, 2000.0)
    assert not isinstance(table, str)
    assert table.title == "Hosts for 2,000 requests/s (calibrated on 2026-09-21)"
    assert to_rows(table)[0]["hosts"] == "1"
    calls = build_plan(SMOKE.with_name("grpc-100.toml"), scale=0.01, seed=None, targets=())
    missing = hosts_at(calls, 10_000.0)
    assert isinstance(missing, str)
    assert "nobody calibrated gRPC here; `headroom calibrate` measures it" in missing


def test_connections_grow_with_a_rate_above_the_plans(calibration: str) -> None:
    """A model asks a small run's plan for a large rate: ten times as many are needed."""
    measured = msgspec.json.decode(Path(calibration).read_bytes(), type=Calibration)
    plan = build_plan(SMOKE, scale=1.0, seed=None, targets=())
    peak = max(peak_level(stage.profile) for stage in plan.stages)
    traffic, types = traffic_of(plan, costs_by_kind(measured)), load_host_types(HOST_TYPES)
    own = demand_of(plan, peak, traffic, types)
    more = demand_of(plan, 10 * peak, traffic, types)
    assert own.connections == plan.all_connections
    assert (more.connections, more.to_one_node) == (10 * own.connections, 10 * own.to_one_node)


def space_of(tmp_path: Path) -> Space:
    """What `capacity search` of the smoke scenario makes of its command line."""
    parser = argparse.ArgumentParser()
    capacity_search.add_verb(parser.add_subparsers())
    words = ("search", str(SMOKE), "--results", str(tmp_path))
    return build_space(parser.parse_args(words))


def result_of(lower: float | None, upper: float | None) -> SearchResult:
    """A search that ended with these bounds."""
    settings = Settings(min_per_s=1.0, max_per_s=400.0, precision_ratio=0.05, trial_s=10.0,
                        max_trials=25, settle_s=2.0, critical_ns=())  # fmt: skip
    subject = Subject(scenario="x", stage="x", objectives=(), nodes=(), seed=1, created_unix_ns=1)
    result = build_result("x", subject, settings, (), ending=Ending.TRIALS_USED)
    bounds = dataclasses.replace(
        result.objectives,
        lower=None if lower is None else bound_at(lower),
        upper=None if upper is None else bound_at(upper),
    )
    return dataclasses.replace(result, bounds=(bounds,))


def bound_at(per_s: float) -> Bound:
    """A rate with a trial there."""
    return Bound(rate_per_s=per_s, held=1, missed=0, trials=(1,), agreeing=3, probability=0.99)


@pytest.mark.parametrize(
    ("lower", "upper", "per_s"),
    [(100.0, 200.0, "200.0"), (100.0, None, "100.0"), (None, 50.0, "50.0"), (None, None, "400.0")],
)
def test_every_search_names_hosts_or_says_why_not(
    calibration: str, tmp_path: Path, lower: float | None, upper: float | None, per_s: str
) -> None:
    """With an upper bound for that, else for the highest that held, else for the highest asked."""
    space, result = space_of(tmp_path), result_of(lower, upper)
    assert isinstance(hosts_of(space, result), str)
    store_calibration(msgspec.json.decode(Path(calibration).read_bytes(), type=Calibration))
    table = hosts_of(space, result)
    assert not isinstance(table, str)
    assert table.title.startswith(f"Hosts for {per_s} requests/s")


def test_the_page_of_a_search_has_the_hosts(calibration: str, tmp_path: Path) -> None:
    """As Markdown: the sentence with the command, or the table under its title."""
    space, result = space_of(tmp_path), result_of(100.0, 200.0)
    why_not = hosts_of(space, result)
    assert isinstance(why_not, str)
    assert markdown_cell(why_not, LONGEST_LINE) in to_page(result, why_not)
    store_calibration(msgspec.json.decode(Path(calibration).read_bytes(), type=Calibration))
    table = hosts_of(space, result)
    assert not isinstance(table, str)
    page = to_page(result, table)
    assert f"## {markdown_cell(table.title)}" in page
    assert "c6i.4xlarge" in page


def test_without_a_calibration_nothing_is_guessed(calibration: str) -> None:
    """Neither of this machine nor in the file that was named."""
    code, _, err = call("size", "--rate", "1000", "--protocol", "rest")
    assert (code, "headroom calibrate" in err) == (ExitCode.USAGE, True)
    code, _, err = call("size", "--rate", "1", "--protocol", "rest", "--calibration", "/no.json")
    assert (code, "/no.json" in err) == (ExitCode.USAGE, True)
    assert calibration


def test_a_file_that_is_no_calibration_is_the_users_mistake(
    calibration: str, tmp_path: Path
) -> None:
    """The option is named, with what is wrong."""
    assert calibration
    (wrong := tmp_path / "wrong.json").write_text("{}", encoding="utf-8")
    code, _, err = call("size", "--rate", "1", "--protocol", "rest", "--calibration", str(wrong))
    assert code is ExitCode.USAGE
    assert "--calibration: saw Object missing required field" in err
