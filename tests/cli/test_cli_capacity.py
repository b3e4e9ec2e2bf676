"""`headroom capacity search` names every mistake before anything is sent."""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec
import pytest

from analysis.capacity.search.result import Subject, build_result, write_result
from analysis.capacity.search.settings import Settings
from loadtests.cli import main
from loadtests.commands.calibration import Calibration, ProtocolCost, calibration_path
from loadtests.errors import ExitCode

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
SMOKE = str(SCENARIOS / "smoke.toml")


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No calibration and no configuration of whoever runs the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HEADROOM_CONFIG", raising=False)


def refused(*arguments: str) -> str:
    """The message of a search that is refused as a mistake, with nothing printed as a result."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = main(("capacity", "search", *arguments), stdout, stderr)
    assert code is ExitCode.USAGE, stderr.getvalue()
    assert stdout.getvalue() == ""
    assert "Traceback" not in stderr.getvalue()
    return stderr.getvalue()


def scenario(tmp_path: Path, **changes: str) -> str:
    """The smoke scenario with texts replaced: `old="new"`, keys with _ for a space."""
    text = (SCENARIOS / "smoke.toml").read_text(encoding="utf-8")
    for name, new in changes.items():
        old = {"model": 'model = "open"', "guard": "version_path", "criteria": "[criteria]"}[name]
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_several_judged_stages_need_a_choice() -> None:
    """A ramp has many levels: which one's objectives? All names are listed."""
    text = refused(str(SCENARIOS / "rest-ramp-to-knee.toml"))
    assert "--stage: saw 10 judged stages" in text
    assert "level-025" in text
    assert "level-200" in text
    assert "--stage: saw 'knee'" in refused(SMOKE, "--stage", "knee")


def test_closed_load_has_no_rate(tmp_path: Path) -> None:
    """Closed load follows the answers: it cannot be offered a rate."""
    text = (SCENARIOS / "calibration.toml").read_text(encoding="utf-8")
    path = tmp_path / "closed.toml"
    path.write_text(text, encoding="utf-8")
    assert "closed load has no rate" in refused(str(path))


def test_without_objectives_there_is_nothing_to_find(tmp_path: Path) -> None:
    """A search needs something that a rate can hold."""
    path = scenario(tmp_path, criteria="[criteria]\nobjectives = []\n[other]")
    text = Path(path).read_text(encoding="utf-8")
    Path(path).write_text(text[: text.index("[other]")], encoding="utf-8")
    assert "criteria.objectives: saw none" in refused(path)


def test_the_scenarios_guard_is_not_passed(tmp_path: Path) -> None:
    """target.max_rate limits a search as it limits a run."""
    path = scenario(tmp_path, guard='max_rate = "900 rps"\nversion_path')
    text = refused(path, "--max-rate", "2000")
    assert "--max-rate: saw 2000; expected at most 900.0 (target.max_rate" in text


def test_a_host_that_is_not_authorised_gets_no_trial() -> None:
    """The refusal of `run`, with its exit code, before anything is sent."""
    stderr = io.StringIO()
    arguments = ("capacity", "search", SMOKE, "--target", "http://api.example.net")
    assert main(arguments, io.StringIO(), stderr) is ExitCode.ABORTED
    assert "not an authorised target" in stderr.getvalue()


def test_what_is_authorised_is_not_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's max_rate is the highest rate, whoever asks for more."""
    path = tmp_path / "headroom.toml"
    entry = '[authorised_targets."api.example.net"]\nowner = "us"\nmax_rate = "700 rps"\n'
    path.write_text(entry + "expires = 2099-12-31\n")
    monkeypatch.setenv("HEADROOM_CONFIG", str(path))
    text = refused(SMOKE, "--target", "http://api.example.net", "--max-rate", "800")
    assert "expected at most 700.0 (what the target's owner authorised)" in text


def test_rates_and_lengths_must_carry_the_percentiles() -> None:
    """All that is wrong with the rates, at once, with what would do."""
    text = refused(SMOKE, "--min-rate", "3", "--max-rate", "2", "--trial-duration", "10")
    assert "--min-rate: saw 3; expected 101.1 or more, or a longer --trial-duration" in text
    assert "--min-rate, --max-rate: saw rates from 3.00 to 2.00" in text


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--trial-duration", "1", "--trial-duration: saw 1 s; expected 5 s or more"),
        ("--precision", "0.1", "--precision: saw 0.1 %; expected 1 to 50 %"),
    ],
)
def test_odd_options_are_mistakes(option: str, value: str, message: str) -> None:
    """Trials too short to judge, and a precision that nobody reaches."""
    assert message in refused(SMOKE, option, value)


@pytest.mark.parametrize("option", ["--max-rate", "--min-rate", "--settle", "--max-trials"])
def test_options_are_positive_numbers(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The parser says so itself."""
    refused(SMOKE, option, "-1")
    assert re.search("expected a (number above 0|whole number from 1 )", capsys.readouterr().err)


def test_what_cannot_be_resumed_is_named(tmp_path: Path) -> None:
    """No such search; or one of other options."""
    results = ("--results", str(tmp_path))
    assert "no such file" in refused(SMOKE, *results, "--resume", "nothing")
    settings = Settings(
        min_per_s=1.0,
        max_per_s=2.0,
        precision_ratio=0.05,
        trial_s=10.0,
        max_trials=25,
        settle_s=2.0,
        critical_ns=(),
    )
    subject = Subject(scenario="x", stage="x", objectives=(), nodes=(), seed=1, created_unix_ns=1)
    write_result(tmp_path, build_result("other", subject, settings, (), ending=None))
    assert "expected the same scenario" in refused(SMOKE, *results, "--resume", "other")


def test_a_calibrated_generator_sets_the_upper_end(tmp_path: Path) -> None:
    """Said as a warning, with both numbers; here it leaves no rate to search."""
    cost = ProtocolCost(
        request_ns=9e6, request_ns_low=9e6, request_ns_high=9e6, saturation_per_s=100.0
    )
    path = calibration_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(Calibration(measured_unix_ns=1, cores=1, http1=cost)))
    text = refused(SMOKE, "--max-rate", "400", "--engines", "1", "--results", str(tmp_path))
    assert "engines make at most 100.0 requests/s; the search goes no higher" in text
    assert "400.0 would be allowed" in text


def test_the_help_says_what_the_options_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    """Limits that are refused otherwise stand in the help."""
    assert main(("capacity", "search", "--help"), io.StringIO(), io.StringIO()) is ExitCode.PASS
    text = " ".join(capsys.readouterr().out.split())
    assert "judged length of a trial, 5 or more (default: 10)" in text
    assert "how far apart the bounds may be, 1 to 50 (default: 5)" in text
