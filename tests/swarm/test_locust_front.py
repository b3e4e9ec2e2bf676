"""The plain `locust` command as a front door: real master, workers, web UI, browser, CSV."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from locust.stats import bucket_response_time, calculate_response_time_percentile
from swarm_rig import (
    Job,
    complete_runs,
    free_port,
    job,
    only_run,
    wait_until,
    with_audit,
    write_scenario,
)

from loadtests.cluster.launch import Cluster
from loadtests.record.archive import Run, verify
from loadtests.record.directory import READ_BACK_FILE
from loadtests.record.histogram import BUCKETS, HIGHEST_EQUIVALENT_US, LOWEST_EQUIVALENT_US
from loadtests.record.manifest import Outcome
from loadtests.record.window import Kind

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
LOCUSTFILE = str(ROOT / "loadtests" / "locustfile.py")
CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes on free ports."""
    with Cluster.start(nodes=2) as started:
        started.wait_ready(30)
        yield started


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """A Locust master and its workers."""

    master: Job
    workers: tuple[Job, ...]
    folder: Path
    web_port: int

    def figures(self) -> dict[str, Any]:
        """What the UI polls."""
        return self._get("/stats/requests")

    def live(self) -> dict[str, Any]:
        """What our page polls."""
        return self._get("/headroom/live.json")

    def _get(self, path: str) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.web_port}{path}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            document: dict[str, Any] = json.loads(answer.read())
            return document


def start_swarm(
    stack: ExitStack,
    cluster: Cluster,
    folder: Path,
    *rest: str,
    seconds: int,
    is_audited: bool = False,
) -> Swarm:
    """Master with a scenario, and two workers with an engine each."""
    scenario = write_scenario(folder, seconds=seconds)
    port, web_port = str(free_port()), free_port()
    targets = [word for node in cluster.nodes for word in ("--target", node.url)]
    master = stack.enter_context(
        job(
            folder,
            "locust", "-f", LOCUSTFILE, "--master", "--master-bind-port", port,
            "--scenario", str(with_audit(scenario) if is_audited else scenario), *targets,
            "--expect-workers", "2", "--results", str(folder / "results"),
            "--web-port", str(web_port), *rest,
        )
    )  # fmt: skip
    workers = tuple(
        stack.enter_context(
            job(
                folder,
                "locust", "-f", LOCUSTFILE, "--worker", "--master-host", "127.0.0.1",
                "--master-port", port, "--engines", "1",
            )
        )
        for _ in range(2)
    )  # fmt: skip
    return Swarm(master=master, workers=workers, folder=folder, web_port=web_port)


def rounded(run: Run, request: str) -> Counter[int]:
    """The archive's response times of a request, rounded as Locust rounds: ms -> count."""
    times: Counter[int] = Counter()
    for (_, name, _, kind), histogram in run.totals(judged=False).items():
        if name == request and kind in {Kind.RESPONSE, Kind.FAILED_RESPONSE}:
            for bucket in histogram.counts[:BUCKETS].nonzero()[0]:
                middle = (LOWEST_EQUIVALENT_US[bucket] + HIGHEST_EQUIVALENT_US[bucket] + 1) / 2
                times[bucket_response_time(middle / 1000)] += int(histogram.counts[bucket])
    return times


def test_headless_writes_archive_csv_and_exit_code(cluster: Cluster, tmp_path: Path) -> None:
    """One archive; Locust's CSV files show its counts; the exit code is the verdict's."""
    with ExitStack() as stack:
        prefix = ["--csv", str(tmp_path / "shown"), "--headless"]
        swarm = start_swarm(stack, cluster, tmp_path, *prefix, seconds=3)
        code = swarm.master.wait()
        text = swarm.master.text()
        assert [worker.wait(20) for worker in swarm.workers] == [0, 0]
    run = only_run(tmp_path / "results")
    verdict = json.loads((run.path / "verdict.json").read_text(encoding="utf-8"))
    codes = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}
    assert code == codes[verdict["state"]], text
    assert verify(run.path) == ()
    assert run.manifest.outcome is Outcome.COMPLETE
    with (tmp_path / "shown_stats.csv").open(encoding="utf-8") as file:
        shown = {row["Name"]: int(row["Request Count"]) for row in csv.DictReader(file)}
    ended = run.windows.groupby("request", observed=True)[["ok", "client_error", "failed"]].sum()
    archived = {str(name): int(row.sum()) for name, row in ended.iterrows()}
    assert shown == {
        "submit": archived["submit"],
        "health": archived["health"],
        "Aggregated": archived["submit"] + archived["health"],
    }
    assert shown["Aggregated"] == 300
    with (tmp_path / "shown_stats_history.csv").open(encoding="utf-8") as file:
        history = [int(row["Total Request Count"]) for row in csv.DictReader(file)]
    assert (history, history[-1]) == (sorted(history), 300)
    for name in ("failures", "exceptions"):
        with (tmp_path / f"shown_{name}.csv").open(encoding="utf-8") as file:
            assert list(csv.DictReader(file)) == []


def test_writes_are_read_back_as_by_headroom_run(cluster: Cluster, tmp_path: Path) -> None:
    """Every acknowledged write is found once, and the verdict knows of it."""
    with ExitStack() as stack:
        swarm = start_swarm(stack, cluster, tmp_path, "--headless", seconds=2, is_audited=True)
        swarm.master.wait()
        text = swarm.master.text()
    run = only_run(tmp_path / "results")
    assert verify(run.path) == ()
    found = pd.read_parquet(run.path / READ_BACK_FILE)
    submitted = run.windows[run.windows["request"] == "submit"]["ok"].sum()
    assert len(found) == submitted > 0, text
    assert set(found["copies"]) == {1}, text


@pytest.fixture(scope="module")
def ended(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """A swarm whose run is over, its web UI still open."""
    folder = tmp_path_factory.mktemp("ui")
    with ExitStack() as stack:
        swarm = start_swarm(stack, cluster, folder, "--autostart", seconds=4)
        wait_until(
            lambda: complete_runs(folder / "results") or swarm.master.process.poll() is not None,
            "the end of the run",
        )
        assert swarm.master.process.poll() is None, swarm.master.text()
        wait_until(lambda: is_open(swarm) and swarm.figures()["state"] == "stopped", "the view")
        yield swarm


def is_open(swarm: Swarm) -> bool:
    """True when the web UI answers."""
    with suppress(OSError):
        return bool(swarm.figures())
    return False


def test_the_web_ui_shows_the_archives_numbers(ended: Swarm) -> None:
    """Counts of the UI equal the archive's; its percentiles equal the rounded histograms'."""
    run = only_run(ended.folder / "results")
    shown = {row["name"]: row for row in ended.figures()["stats"]}
    assert set(shown) == {"submit", "health", "Aggregated"}
    whole: Counter[int] = Counter()
    for request in ("submit", "health"):
        times = rounded(run, request)
        whole += times
        assert shown[request]["num_requests"] == times.total()
    assert shown["Aggregated"]["num_requests"] == whole.total() == 400
    for percent in (0.95, 0.99):
        expected = calculate_response_time_percentile(dict(whole), whole.total(), percent)
        assert shown["Aggregated"][f"response_time_percentile_{percent}"] == expected
    assert shown["Aggregated"]["num_failures"] == int(run.windows["failed"].sum())


def test_our_page_says_what_became_of_the_run(ended: Swarm) -> None:
    """Its seconds add up to the archive's requests, and what was provisional is gone."""
    shown = ended.live()
    run = only_run(ended.folder / "results")
    verdict = json.loads((run.path / "verdict.json").read_text(encoding="utf-8"))
    assert shown["run_id"] == run.manifest.run_id
    assert sum(shown["series"]["done"]) == 400
    wait_until(lambda: verdict["state"] in ended.live()["verdict_note"], "the verdict")
    assert ended.live()["verdict"] is None


@pytest.mark.browser
def test_a_browser_shows_them_too(ended: Swarm) -> None:
    """The page in headless Chromium has the requests with their counts, and a rate."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        page = subprocess.run(
            [
                *CHROMIUM, f"--user-data-dir={profile}", "--virtual-time-budget=6000",
                "--dump-dom", f"http://127.0.0.1:{ended.web_port}/",
            ],
            capture_output=True, text=True, timeout=120, check=True,
        ).stdout  # fmt: skip
    bare = re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", html.unescape(bare))
    for row in ended.figures()["stats"]:
        percentile = f"{row['response_time_percentile_0.95']:g}"
        assert f"{row['name']} {row['num_requests']} {row['num_failures']} " in text, text
        assert re.search(rf"{row['name']} \d+ \d+ \S+ {percentile} ", text), text
    rate = re.search(r"RPS ([0-9.]+)", text)
    assert rate is not None
    assert 50 < float(rate[1]) < 150


def test_locust_ends_with_the_verdict_after_the_ui(ended: Swarm) -> None:
    """Ctrl-C after the run closes the UI; the exit code is still the run's."""
    run = only_run(ended.folder / "results")
    verdict = json.loads((run.path / "verdict.json").read_text(encoding="utf-8"))
    ended.master.process.send_signal(signal.SIGINT)
    codes = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}
    assert ended.master.wait() == codes[verdict["state"]], ended.master.text()


def test_the_stop_button_ends_a_run_in_order(cluster: Cluster, tmp_path: Path) -> None:
    """POST /stop: load drains, agents hand over their FINAL, the archive says who stopped it.

    Before it, Locust's start form has changed neither target nor rate nor where results go.
    """
    with ExitStack() as stack:
        swarm = start_swarm(stack, cluster, tmp_path, "--autostart", seconds=60)
        wait_until(
            lambda: is_open(swarm) and swarm.figures()["stats"][-1]["num_requests"] > 0, "load"
        )
        evil = b"user_count=9999&spawn_rate=99&host=http%3A%2F%2Fevil.example&results=%2Fevil"
        assert post(swarm, "/swarm", evil, origin="http://evil.example") == 403
        assert post(swarm, "/swarm", evil) == 200
        shown = swarm.live()
        assert (shown["agents_up"], shown["engines_up"], shown["stop_reason"]) == (2, 2, None)
        assert post(swarm, "/stop", b"", origin="") == 403
        assert post(swarm, "/stop", b"") == 200
        wait_until(lambda: complete_runs(tmp_path / "results"), "the archive")
        swarm.master.process.send_signal(signal.SIGINT)
        assert swarm.master.wait() == 4, swarm.master.text()
    run = only_run(tmp_path / "results")
    assert run.manifest.outcome is Outcome.ABORTED
    assert [agent.has_final for agent in run.manifest.agents] == [True, True]
    rates = run.windows.groupby("window_s")["planned"].sum()
    assert rates.max() <= 101


def post(swarm: Swarm, path: str, form: bytes, *, origin: str | None = None) -> int:
    """Status of a form sent by the UI's own page, or by another one."""
    own = f"http://127.0.0.1:{swarm.web_port}"
    headers = {"Origin": own if origin is None else origin} if origin != "" else {}
    request = urllib.request.Request(f"{own}{path}", data=form, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_ctrl_c_ends_a_run_in_order(cluster: Cluster, tmp_path: Path) -> None:
    """SIGINT of a headless Locust master: complete archive, exit 4, workers end as well."""
    with ExitStack() as stack:
        swarm = start_swarm(stack, cluster, tmp_path, "--headless", seconds=60)
        wait_until(lambda: swarm.workers[0].engines() and swarm.workers[1].engines(), "engines")
        swarm.master.process.send_signal(signal.SIGINT)
        assert swarm.master.wait() == 4, swarm.master.text()
        for worker in swarm.workers:
            worker.wait(30)
    run = only_run(tmp_path / "results")
    assert run.manifest.outcome is Outcome.ABORTED


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--master", "--headless"], "--scenario"),
        (["--master", "--headless", "--scenario", "nowhere.toml"], "nowhere.toml"),
        (["--headless"], "headroom run"),
        (["--master", "--web-host", "0.0.0.0"], "--web-login"),
    ],
    ids=["no scenario", "a missing file", "neither master nor worker", "an open web UI"],
)
def test_a_users_mistake_is_a_sentence_and_exit_2(
    tmp_path: Path, words: list[str], expected: str
) -> None:
    """What a user can get wrong is told without a traceback, before anything starts."""
    bind = ["--master-bind-port", str(free_port())] if "--master" in words else []
    with job(tmp_path, "locust", "-f", LOCUSTFILE, *words, *bind) as started:
        assert started.wait() == 2, started.text()
        assert expected in started.text()
        assert "Traceback" not in started.text()
