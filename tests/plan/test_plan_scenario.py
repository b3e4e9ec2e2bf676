"""Scenario files: what loads, what is refused, and how each mistake is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.clock import NS_PER_S
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.plan.call import FieldEquals, Protocol
from loadtests.plan.concurrency import carriers
from loadtests.plan.model import (
    ArrivalProcess,
    BodyContains,
    Hold,
    JsonEquals,
    LoadModel,
    LossPolicy,
    MaxBytes,
    MeasureKind,
    Plan,
    Ramp,
    Sine,
    Spike,
    Step,
)
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.plan.spec import SHAPES, ShapelessSpec

HERE = Path(__file__).parent
NIGHTLY = HERE.parent.parent / "scenarios" / "nightly.toml"  # a plan of scenarios
SHIPPED = sorted(set(NIGHTLY.parent.glob("*.toml")) - {NIGHTLY})
GOOD = sorted((HERE / "good").glob("*.toml"))
BAD = sorted((HERE / "bad").glob("*.toml"))
MINIMAL = (HERE / "good" / "minimal.toml").read_text(encoding="utf-8")


def good(name: str) -> Plan:
    """Plan of a good file."""
    return resolve(load_scenario(HERE / "good" / f"{name}.toml"))


def mistakes_in(path: Path) -> list[str]:
    """Messages of a file that must not load."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert caught.value.exit_code is ExitCode.USAGE
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize("path", [*GOOD, *SHIPPED], ids=lambda path: path.stem)
def test_good_files_load(path: Path) -> None:
    """A good or shipped scenario resolves, at scale 1 and scaled."""
    scenario_file = load_scenario(path)
    assert resolve(scenario_file).scenario_text == path.read_text(encoding="utf-8")
    assert resolve(scenario_file, scale=0.01).scale == 0.01


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_files_name_every_mistake(path: Path) -> None:
    """A bad file is refused with all its mistakes at once, as written beside it."""
    expected = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert mistakes_in(path) == expected


@pytest.mark.parametrize(
    ("written", "instead", "wrong"),
    [
        ("version = 1\n", "", "version"),
        ('model = "open"', 'model = "opened"', "load.model"),
        ('model = "open"', "model = 5", "load.model"),
        ('baseline = "rest"', "baseline = 7", "load.baseline"),
        ('baseline = "rest"', 'baseline = "soap"', "load.baseline"),
        ('rate = "50 %"', "rate = 50", "load.rate"),
        ('rate = "50 %"', 'rate = "50 % of soap"', "load.rate"),
        ("connections = 400", "connections = 0", "load.connections"),
        ("pipelining = 1", "pipelining = 0", "load.pipelining"),
        ('warm_up = ["warm-up"]', 'warm_up = "warm-up"', "load.warm_up"),
        ('rest = "1000 rps"', "rest = 1000", "baselines.rest"),
        ("[baselines]", "[[baselines]]", "baselines"),
        ("[target]", "[[target]]", "target"),
        ("[load]", "[[load]]", "load"),
        ("[criteria]", "[[criteria]]", "criteria"),
        ('max_rate = "5000 rps"', "max_rate = 5000", "target.max_rate"),
        ('url = "https://[::1]:9443/prefix/"', "url = 5", "target.nodes[1].url"),
        ('client_key = "client.key"', "client_key = 5", "target.tls.client_key"),
        ('name = "hold"', "name = 5", "stages[1].name"),
        ('duration = "1 min"', "duration = 60", "stages[1].duration"),
        ('shape = "sine"', 'shape = "sinus"', "stages[5].shape"),
        ('shape = "sine"', "shape = 5", "stages[5].shape"),
        ('mean = "500 rps"', "mean = 500.0", "stages[5].mean"),
        ('peak = "200 % of rest"', "peak = true", "stages[3].peak"),
        ("judged = false", 'judged = "no"', "stages[4].judged"),
        ('name = "order"', "name = 5", "requests[0].name"),
        ('contains = "ok"', "contains = 5", "requests[0].checks[0].contains"),
        ('equals = "PENDING"', "equals = [1]", "requests[0].checks[1].equals"),
        ('body_file = "order.json"', "body_file = 5", "requests[0].body_file"),
        ('"p95 < 200 ms",', "5,", "criteria.objectives[0]"),
    ],
)
def test_one_mistake_is_not_taken_for_two(
    tmp_path: Path, written: str, instead: str, wrong: str
) -> None:
    """What rests on a wrong value is not reported beside it, whatever refers to it."""
    for name in ("users.csv", "order.json"):
        (tmp_path / name).write_bytes((HERE / "good" / name).read_bytes())
    text = (HERE / "good" / "everything.toml").read_text(encoding="utf-8")
    assert text.count(written) >= 1
    path = tmp_path / "one.toml"
    path.write_text(text.replace(written, instead, 1), encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert [mistake.where for mistake in caught.value.mistakes] == [wrong]


def test_a_stage_without_a_known_shape_has_the_keys_of_all() -> None:
    """A key that some shape has is not unknown because the shape is."""
    keys = {field.name for kind in SHAPES.values() for field in dataclasses.fields(kind)}
    assert {field.name for field in dataclasses.fields(ShapelessSpec)} == keys


def test_there_are_files_to_test() -> None:
    """The parametrised tests above are not empty."""
    assert len(GOOD) >= 3
    assert len(BAD) >= 8
    assert {path.stem for path in SHIPPED} >= {
        "grpc-100",
        "grpc-150",
        "grpc-200",
        "grpc-soak",
        "mixed-100",
        "rest-100",
        "rest-150",
        "rest-200",
        "rest-soak",
        "rest-spike",
        "rest-ramp-to-knee",
        "smoke",
    }


def test_every_key_reaches_the_plan() -> None:
    """Each key of the format changes the plan as documented."""
    plan = good("everything")
    assert (plan.load_model, plan.arrival_process) == (LoadModel.OPEN, ArrivalProcess.POISSON)
    assert (plan.seed, plan.loss_policy) == (42, LossPolicy.REDISTRIBUTE)
    assert (plan.connections, plan.in_flight_limit, plan.backlog_limit) == (400, 300, 1000)
    assert (plan.max_rate_per_s, plan.connects_per_s) == (5000.0, 100.0)
    assert (plan.response_limit_bytes, plan.grace_ns) == (65536, 5 * NS_PER_S)
    assert plan.connect_timeout_ns == NS_PER_S // 2
    assert plan.version_path == "/api/v11/info"
    assert plan.baselines == (("batch", 1.0), ("rest", 1000.0))
    assert plan.load_percent == 50.0
    six = plan.nodes[1]
    assert (six.name, six.scheme, six.host, six.port) == ("six", "https", "::1", 9443)
    assert (six.base_path, six.weight, six.authority) == ("/prefix", 3.0, "[::1]:9443")
    assert plan.nodes[0].name == "127.0.0.1:9003"
    assert plan.tls is not None
    assert (plan.tls.verify, plan.tls.server_name) == (True, "node.test")
    assert plan.feeds[0].columns == ("id", "name")
    assert plan.feeds[0].rows[2] == ("3", "cy, the third")


@pytest.mark.parametrize("section", ["", '[target.tls]\nca_file = "ca.pem"\n'])
def test_verification_is_on_unless_the_scenario_says_otherwise(
    tmp_path: Path, section: str
) -> None:
    """An https node alone, or TLS settings without a word on it, mean verification."""
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n", encoding="ascii")
    path = tmp_path / "https.toml"
    path.write_text(MINIMAL.replace("http://", "https://") + section, encoding="utf-8")
    tls = resolve(load_scenario(path)).tls
    assert tls is not None
    assert tls.verify


def test_requests_reach_the_plan() -> None:
    """Bodies, statuses and checks are read; a body file counts as the body."""
    order, submit = good("everything").requests
    assert order.body == (HERE / "good" / "order.json").read_bytes()
    assert order.expected_statuses == (201, 202)
    assert order.timeout_ns == 1_500_000_000
    assert order.checks == (
        BodyContains(text="ok"),
        JsonEquals(pointer="/status", value="PENDING"),
        MaxBytes(size_bytes=2000),
    )
    assert (submit.weight, submit.expected_statuses) == (1.0, ())


def test_stages_follow_each_other() -> None:
    """Stages are absolute, gapless, and warm-ups and unjudged ones are known."""
    plan = good("everything")
    assert plan.stages[0].start_ns == 0
    for before, after in zip(plan.stages, plan.stages[1:], strict=False):
        assert before.end_ns == after.start_ns
    assert [s.name for s in plan.stages if not s.is_judged] == ["warm-up", "pause"]
    assert [s.profile for s in plan.stages] == [
        Ramp(start=0.0, end=500.0),
        Hold(level=500.0),
        Step(start=100.0, end=1000.0, steps=10),
        Spike(base=100.0, peak=2000.0, peak_start_ns=3 * NS_PER_S, peak_ns=2 * NS_PER_S),
        Hold(level=0.0),
        Sine(mean=500.0, amplitude=500.0, period_ns=10 * NS_PER_S),
    ]


def test_scale_multiplies_rates_and_throughput_limits_only() -> None:
    """A scaled plan has scaled levels and throughput limits, and the same latencies."""
    scenario_file = load_scenario(HERE / "good" / "everything.toml")
    plan, scaled = resolve(scenario_file), resolve(scenario_file, scale=0.1)
    assert scaled.stages[1].profile == Hold(level=50.0)
    assert scaled.duration_ns == plan.duration_ns
    limits = {objective.text: objective.limit for objective in scaled.objectives}
    assert limits["throughput >= 480 rps in hold"] == 48.0
    assert limits["goodput > 45 % in hold"] == pytest.approx(45.0)
    assert limits["p95 < 200 ms"] == 200e6
    assert scaled.alerts[1].limit == pytest.approx(40.0)
    assert (scaled.connections, scaled.in_flight_limit) == (40, 30)
    assert scaled.max_rate_per_s == plan.max_rate_per_s


def test_seed_and_targets_of_the_command_line_win() -> None:
    """A seed replaces the file's; targets replace all its nodes, evenly."""
    scenario_file = load_scenario(HERE / "good" / "everything.toml")
    plan = resolve(scenario_file, seed=9, targets=("http://127.0.0.1:1", "http://[::1]:2"))
    assert plan.seed == 9
    assert [node.name for node in plan.nodes] == ["127.0.0.1:1", "[::1]:2"]
    assert {node.weight for node in plan.nodes} == {1.0}


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e308])
def test_a_scale_out_of_range_is_refused(scale: float) -> None:
    """A scale must be a number above 0 and at most 1000."""
    with pytest.raises(ScenarioError, match="--scale"):
        resolve(load_scenario(HERE / "good" / "minimal.toml"), scale=scale)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    """A seed fits 63 bits."""
    with pytest.raises(ScenarioError, match="--seed"):
        resolve(load_scenario(HERE / "good" / "minimal.toml"), seed=seed)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://h/?q=1",
        "http://h/#f",
        "http://h h",
        "http://h/a b",
        "unix:///x",
        "http://[::1",
        "http://-h",
        "http://u@h",
    ],
)
def test_a_wrong_target_is_refused(url: str) -> None:
    """A target is a plain base URL; the message says which argument was wrong."""
    with pytest.raises(ScenarioError, match=r"--target\[0\]"):
        resolve(load_scenario(HERE / "good" / "minimal.toml"), targets=(url,))


def test_closed_load_has_connections_for_levels() -> None:
    """Closed load: levels are connections, the caps are the peak, nothing is planned."""
    plan = good("closed")
    assert plan.load_model is LoadModel.CLOSED
    assert plan.stages[1].profile == Hold(level=100.0)
    assert (plan.connections, plan.in_flight_limit) == (100, 100)
    assert plan.think_time_ns == 350_000_000
    half = resolve(load_scenario(HERE / "good" / "closed.toml"), scale=0.5)
    assert (half.connections, half.stages[0].profile) == (50, Ramp(start=1.0, end=50.0))


def test_load_profiles_are_the_policy() -> None:
    """The shipped profiles have the policy's rates, durations and gates."""
    for stem, percent, rate, hours in (
        ("rest-100", 100.0, 776_000.0, 1.0),
        ("rest-150", 150.0, 1_164_000.0, 1.0),
        ("rest-200", 200.0, 1_552_000.0, 0.5),
        ("grpc-100", 100.0, 1_000_000.0, 1.0),
        ("grpc-150", 150.0, 1_500_000.0, 1.0),
        ("grpc-200", 200.0, 2_000_000.0, 0.5),
        ("mixed-100", 100.0, 1_776_000.0, 1.0),
    ):
        plan = resolve(load_scenario(SHIPPED[0].parent / f"{stem}.toml"))
        stage = next(stage for stage in plan.stages if stage.is_judged)
        assert plan.load_percent == percent
        assert stage.profile == Hold(level=rate)
        assert (stage.end_ns - stage.start_ns) == hours * 3600 * NS_PER_S
        assert {("rest", 776_000.0), ("grpc", 1_000_000.0)} & set(plan.baselines)
    plan = resolve(load_scenario(SHIPPED[0].parent / "rest-100.toml"))
    gates = {objective.text for objective in plan.objectives}
    assert gates == {
        "p95 < 200 ms",
        "p99 < 500 ms",
        "error_ratio < 0.1 %",
        "throughput >= 776000 rps",
        "server.cpu < 80 %",
        "server.memory < 512 MB",
        "server.disk < 70 %",
    }


def test_grpc_profiles_are_the_policy() -> None:
    """The gates are those of gRPC, and 100,000 in flight take 80 % of its streams."""
    plan = resolve(load_scenario(SHIPPED[0].parent / "grpc-100.toml"))
    assert {objective.text for objective in plan.objectives} == {
        "p95 < 100 ms",
        "p99 < 300 ms",
        "error_ratio < 0.1 %",
        "throughput >= 1000000 rps",
        "pool_use <= 80 %",
    }
    (alert,) = [one for one in plan.alerts if one.measure.kind is MeasureKind.POOL_USE]
    assert (alert.limit, alert.sustain_ns) == (0.9, 300 * NS_PER_S)
    streams = plan.multiplexing.connections * plan.multiplexing.streams
    assert 1_000_000 * 0.1 / streams == 0.8
    submit = next(request for request in plan.requests if request.name == "submit")
    assert submit.call is not None
    assert submit.call.checks == (FieldEquals(path="status.code", value="OK"),)


def test_the_mixed_profile_has_both_baselines_at_once() -> None:
    """Of 1,776,000 requests/s, 776,000 are REST and 1,000,000 gRPC, with each one's own gates."""
    plan = resolve(load_scenario(SHIPPED[0].parent / "mixed-100.toml"))
    rest, calls = carriers(plan)
    assert rest.part_ratio * 1_776_000 == pytest.approx(776_000)
    assert calls.part_ratio * 1_776_000 == pytest.approx(1_000_000)
    limits = {(o.request, o.measure.quantile): o.limit for o in plan.objectives if o.request}
    for request in plan.requests:
        is_rest = request.protocol is Protocol.HTTP1
        assert limits[request.name, 0.95] == (200e6 if is_rest else 100e6)
        assert limits[request.name, 0.99] == (500e6 if is_rest else 300e6)


def test_secrets_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan holds the variable's name and never its value."""
    monkeypatch.setenv("TOKEN", "canary-7141")
    plan = good("everything")
    assert ("Authorization", "Bearer ${env:TOKEN}") in plan.requests[0].headers
    assert "canary-7141" not in repr(dataclasses.asdict(plan))


@pytest.mark.parametrize("secret", ['"canary"', "7141", '["canary"]'])
def test_a_literal_secret_is_not_repeated(tmp_path: Path, secret: str) -> None:
    """A refused Authorization header or URL password does not appear in the message."""
    text = MINIMAL.replace(
        'path = "/q/health"', f'path = "/"\nheaders = {{ authorization = {secret} }}'
    )
    text = text.replace("http://127.0.0.1:9003", "http://root:canary@127.0.0.1:9003")
    (tmp_path / "secret.toml").write_text(text, encoding="utf-8")
    found = mistakes_in(tmp_path / "secret.toml")
    assert len(found) == 2
    assert not any("canary" in mistake or "7141" in mistake for mistake in found)


def test_a_missing_file_and_a_folder_are_one_mistake(tmp_path: Path) -> None:
    """A file that cannot be read is one clear mistake."""
    assert len(mistakes_in(tmp_path / "none.toml")) == 1
    assert "not a regular file" in mistakes_in(tmp_path)[0]


def test_a_huge_or_endlessly_nested_file_is_one_mistake(tmp_path: Path) -> None:
    """Size and depth are bounded before anything is built from a file."""
    path = tmp_path / "huge.toml"
    path.write_text("#" * (1024 * 1024 + 1), encoding="utf-8")
    assert mistakes_in(path) == [
        "file: saw more than 1048576 bytes; expected at most 1048576 bytes"
    ]
    path.write_text("x = " + "[" * 100_000, encoding="utf-8")
    assert len(mistakes_in(path)) == 1


def test_too_many_slots_are_refused(tmp_path: Path) -> None:
    """Stages x requests x nodes must fit the key space of windows."""
    requests = "".join(f'[[requests]]\nname = "r{n}"\npath = "/"\n' for n in range(400))
    stages = "".join(f'[[stages]]\nname = "s{n}"\nduration = "1 s"\n' for n in range(100))
    (tmp_path / "wide.toml").write_text(MINIMAL + requests + stages, encoding="utf-8")
    assert mistakes_in(tmp_path / "wide.toml")[0].startswith("stages x requests x nodes: saw 40602")


@pytest.mark.parametrize(
    ("csv", "expected"),
    [
        ("", "0 lines"),
        ("id\n", "1 lines"),
        ("id,id\n1,2\n", "different names"),
        ("id,\n1,2\n", "different names"),
        ("id,b\n1\n", "1 cells in row 2"),
        ('id\n"x\n', "RFC 4180"),
    ],
)
def test_a_broken_feed_is_refused(tmp_path: Path, csv: str, expected: str) -> None:
    """A feed is a header with different names and rows of its width."""
    (tmp_path / "f.csv").write_text(csv, encoding="utf-8")
    text = MINIMAL + '[[feeds]]\nname = "f"\nfile = "f.csv"\n'
    (tmp_path / "s.toml").write_text(text, encoding="utf-8")
    (mistake,) = mistakes_in(tmp_path / "s.toml")
    assert mistake.startswith("feeds[0].file: ")
    assert expected in mistake


@settings(max_examples=200)
@given(
    key=st.sampled_from(["nodes", "rate", "connections", "name", "path", "duration"]),
    value=st.one_of(
        st.integers(), st.floats(), st.booleans(), st.text(), st.lists(st.integers(), max_size=3)
    ),
)
def test_any_value_anywhere_is_a_plan_or_a_mistake(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    """Whatever stands at a key, the answer is a plan or a ScenarioError that names the key."""
    lines = MINIMAL.splitlines()
    lines = [f"{key} = {toml_of(value)}" if line.startswith(f"{key} =") else line for line in lines]
    path = tmp_path_factory.mktemp("any") / "any.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    try:
        found: tuple[Mistake, ...] = ()
        assert resolve(load_scenario(path)).stages
    except ScenarioError as error:
        found = error.mistakes
    assert not found or any(key in mistake.where for mistake in found)


def toml_of(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return (
            '"' + "".join(f"\\U{ord(c):08x}" for c in value if not "\ud800" <= c <= "\udfff") + '"'
        )
    return str(value)
