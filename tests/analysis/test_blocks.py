"""Histograms of every window: exact, whole, and refused where they do not add up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from synthetic_run import MS, T0_S, good_plan, good_traces, manifest_of, windows_of, write_run

from analysis.blocks import Blocks, load_blocks, load_counts, step_for
from analysis.figures import OVERALL, build_figures
from loadtests.errors import HarnessError
from loadtests.plan.codec import encode_plan
from loadtests.record.archive import Run, create_archive, load_run
from loadtests.record.histogram import HIGHEST_EQUIVALENT_US, HIGHEST_US, OVERFLOW
from loadtests.record.hlog import decode_tag
from loadtests.record.manifest import Outcome
from loadtests.record.window import Count, Kind, Window, histogram_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two requests on two nodes; some fail, and some of those never have an answer."""
    plan = good_plan()
    traces = good_traces(plan)
    for trace in traces:
        some = np.arange(trace.sent_ns.size)
        trace.fail(some % 50 == 0, "status_500")
        trace.fail(some % 170 == 0, "timeout")
        trace.delay(some % 90 == 0, 900 * MS)
    return write_run(tmp_path_factory.mktemp("blocks"), plan, traces)


def public_counts(run: Run, kind: Kind) -> dict[tuple[str, str, int], HdrHistogram]:
    """What the public HdrHistogram reader finds in the log, merged over nodes."""
    found: dict[tuple[str, str, int], HdrHistogram] = {}
    reader = HistogramLogReader(str(run.path / "latency.hlog"), HdrHistogram(1, HIGHEST_US, 3))
    while (one := reader.get_next_interval_histogram()) is not None:
        stage, request, _, name = decode_tag(one.get_tag())
        if name == kind.name.lower():
            key = stage, request, int(one.get_start_time_stamp()) // 1000
            found.setdefault(key, HdrHistogram(1, HIGHEST_US, 3)).add(one)
    reader.input_file.close()
    return found


def row_of(blocks: Blocks, at: int) -> dict[int, int]:
    """One row as bucket: count."""
    part = slice(int(blocks.starts[at]), int(blocks.starts[at + 1]))
    pairs = zip(blocks.buckets[part].tolist(), blocks.counts[part].tolist(), strict=True)
    return dict(pairs)


@pytest.mark.parametrize("kind", [Kind.RESPONSE, Kind.FAILED_RESPONSE, Kind.SEND_LAG])
def test_every_row_is_what_the_public_reader_finds(run: Run, kind: Kind) -> None:
    """Each window's buckets and counts equal those of HdrHistogram's own log reader."""
    expected = public_counts(run, kind)
    found = load_blocks(run, kind=kind, judged=False)
    rows = 0
    for (stage, request), blocks in found.items():
        if request is OVERALL:
            continue
        for at, second in enumerate(blocks.window_s.tolist()):
            whole = expected[stage, request, second]
            row = row_of(blocks, at)
            assert whole.get_total_count() == sum(row.values())
            assert all(whole.get_count_at_index(bucket) == n for bucket, n in row.items())
            rows += 1
    assert rows == len(expected)


@pytest.mark.parametrize("judged", [True, False])
def test_rows_add_up_to_the_archives_totals(run: Run, judged: bool) -> None:  # noqa: FBT001 - a parameter
    """Sums over windows equal the totals in every bucket, and requests add up to all of them."""
    found = load_blocks(run, kind=Kind.RESPONSE, judged=judged)
    merged, slots = run.merged(judged=judged), run.slots
    for at, stage in enumerate(slots.stages):
        wanted = [slots.slot(at, r, n) for r in range(len(slots.requests)) for n in range(2)]
        whole = histogram_of(merged, Kind.RESPONSE, wanted)
        if whole.n:
            assert np.array_equal(found[stage, OVERALL].histogram().counts, whole.counts)
    assert {stage for stage, _ in found} == {"warm-up", "steady"}


def test_quantiles_of_rows_have_the_rank_of_a_histogram(run: Run) -> None:
    """Row by row the quantile is what `Histogram.quantile_us` says of the same counts."""
    blocks = load_blocks(run, kind=Kind.RESPONSE)["steady", OVERALL]
    for q in (0.5, 0.99, 1.0):
        for at, value in enumerate(blocks.quantiles_us(q).tolist()):
            one = dataclasses.replace(
                blocks,
                window_s=blocks.window_s[at : at + 1],
                starts=blocks.starts[at : at + 2] - blocks.starts[at],
                buckets=blocks.buckets[blocks.starts[at] : blocks.starts[at + 1]],
                counts=blocks.counts[blocks.starts[at] : blocks.starts[at + 1]],
            )
            assert one.histogram().quantile_us(q) == value


def test_a_heat_map_leaves_no_sample_out(run: Run) -> None:
    """Columns between edges, below and above, add up to each row; bounds belong below."""
    blocks = load_blocks(run, kind=Kind.RESPONSE)["steady", OVERALL]
    low, high = (float(HIGHEST_EQUIVALENT_US[bucket]) for bucket in (4000, 5000))
    table = blocks.coarse((low, high))
    assert np.array_equal(table.sum(axis=1), blocks.samples())
    share = blocks.histogram().share_above(high)
    assert table[:, 2].sum() == round(share * blocks.histogram().n)
    edges = np.array([0, 5000, OVERFLOW])
    up_to = blocks.at_most(edges)
    assert np.array_equal(up_to[:, 2], blocks.samples())
    assert up_to[:, 1].sum() == blocks.histogram().counts[:5001].sum()


def test_rows_of_several_seconds_are_sums_of_seconds(run: Run) -> None:
    """A coarser step adds the same windows up, aligned to the stage's first judged second."""
    fine = load_blocks(run, kind=Kind.RESPONSE)["steady", OVERALL]
    coarse = load_blocks(run, kind=Kind.RESPONSE, step_s=4)["steady", OVERALL]
    first = T0_S + 2
    assert coarse.window_s.tolist() == [first, first + 4, first + 8]
    rows = (fine.window_s - first) // 4
    assert coarse.samples().tolist() == np.bincount(rows, weights=fine.samples()).tolist()
    assert step_for(run) == 1


def test_a_partial_run_has_the_same_rows(tmp_path: Path) -> None:
    """The journal of a run that died gives what the log of the complete one gives."""
    plan = good_plan()
    traces = good_traces(plan)
    manifest = msgspec.structs.replace(manifest_of(plan, traces), outcome=Outcome.RUNNING)
    writer = create_archive(tmp_path, manifest, encode_plan(plan))
    writer.journal_windows("a1", windows_of(plan, traces))
    partial, whole = load_run(writer.path), write_run(tmp_path / "whole", plan, traces)
    for judged in (True, False):
        seen = load_blocks(partial, kind=Kind.RESPONSE, judged=judged)
        expected = load_blocks(whole, kind=Kind.RESPONSE, judged=judged)
        assert seen.keys() == expected.keys()
        for key, blocks in expected.items():
            assert np.array_equal(seen[key].window_s, blocks.window_s)
            assert np.array_equal(seen[key].starts, blocks.starts)
            assert np.array_equal(seen[key].buckets, blocks.buckets)
            assert np.array_equal(seen[key].counts, blocks.counts)


def test_parts_of_a_second_are_one_row(tmp_path: Path) -> None:
    """What a stalled agent handed over late is added to its own second."""
    plan = good_plan()
    traces = good_traces(plan)
    manifest = manifest_of(plan, traces)
    draft = msgspec.structs.replace(manifest, outcome=Outcome.RUNNING)
    writer = create_archive(tmp_path, draft, encode_plan(plan))
    windows = windows_of(plan, traces)
    far = dataclasses.replace(Window.empty(T0_S + 10_000), hiccups=())
    for window in (*windows, far, windows[4], windows[5]):
        writer.append_window(window)
    late = load_run(writer.finish(manifest))
    blocks = load_blocks(late, kind=Kind.RESPONSE)["steady", OVERALL]
    assert blocks.window_s.tolist() == sorted(set(blocks.window_s.tolist()))
    once = load_blocks(write_run(tmp_path / "once"), kind=Kind.RESPONSE)["steady", OVERALL]
    assert blocks.samples()[2] == 2 * once.samples()[2]
    assert blocks.samples()[6] == once.samples()[6]


def test_overflow_is_counted_in_its_row(tmp_path: Path) -> None:
    """A response later than an hour is a sample of its window, beyond every edge."""

    def with_overflow(window: Window) -> Window:
        keys = np.append(window.keys, np.uint32(OVERFLOW)) if window.keys.size else window.keys
        return dataclasses.replace(window, keys=np.sort(keys), counts=np.append(window.counts, 1))

    run = write_run(tmp_path, change_window=lambda w: with_overflow(w) if w.slots[0] == 0 else w)
    blocks = load_blocks(run, kind=Kind.RESPONSE, judged=False)["warm-up", OVERALL]
    assert blocks.histogram().overflow > 0
    assert np.isinf(blocks.quantiles_us(1.0)).any()
    assert blocks.coarse((1e9,))[:, 1].sum() >= blocks.histogram().overflow


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace(b"steady/read", b"steady/other"),
        lambda text: text.replace(b",1.000,", b",x,", 1),
        lambda text: b"\n".join(text.split(b"\n")[:-9]) + b"\n",
    ],
)
def test_a_log_that_does_not_add_up_is_refused(tmp_path: Path, damage: object) -> None:
    """A foreign name, a broken line and a missing interval are errors with the file's name."""
    run = write_run(tmp_path)
    log = run.path / "latency.hlog"
    assert callable(damage)
    log.write_bytes(damage(log.read_bytes()))
    with pytest.raises(HarnessError, match=str(run.path)):
        load_blocks(run, kind=Kind.RESPONSE)


def test_counters_of_windows_add_up_to_the_figures(run: Run) -> None:
    """Sums over windows are the stage's tallies, and answers leave out what had none."""
    (stage,) = [stage for stage in build_figures(run) if stage.facts.is_judged]
    found = load_counts(run)
    for request in ("read", "submit", OVERALL):
        counts, tally = found["steady", request], stage.requests[request].tally
        assert counts.counters.sum(axis=0).tolist() == tally.counters.tolist()
        assert int(counts.answered.sum()) == tally.answered < tally.done
        assert int(counts.done.sum()) == tally.done
        assert int(counts.of(Count.FAILED).sum()) == tally.count(Count.FAILED)
