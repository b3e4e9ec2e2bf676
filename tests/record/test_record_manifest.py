"""`run.json`: strict both ways, clear about versions, and the rule of judged windows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest
from record_builders import SUMS, T0_S, good_manifest, replaced

from loadtests.errors import HarnessError
from loadtests.record.facts import git_commit, host_facts, package_versions
from loadtests.record.manifest import (
    EngineSums,
    LostRequests,
    decode_manifest,
    encode_manifest,
    lost_requests_of,
)


def test_a_manifest_survives_json() -> None:
    """Decoding what was encoded gives the same facts, and it is readable text."""
    manifest = good_manifest()
    data = encode_manifest(manifest)
    assert decode_manifest(data, "run.json") == manifest
    assert data.count(b"\n") > 40
    assert json.loads(data)["stages"][1]["name"] == "steady"


@pytest.mark.parametrize(("version", "word"), [(2, "newer"), (0, "older"), (-1, "older")])
def test_another_schema_is_refused_by_name(version: int, word: str) -> None:
    """A newer or older archive says so and what to do, whatever else changed in it."""
    data = json.dumps({"schema_version": version, "shape": "unknown"}).encode()
    with pytest.raises(HarnessError, match=word) as caught:
        decode_manifest(data, "somewhere/run.json")
    assert "somewhere/run.json" in str(caught.value)
    assert "the version that wrote it" in str(caught.value)


def test_an_archive_from_before_losses_were_stated_is_read() -> None:
    """The field is younger than the schema: without it nothing is stated."""
    tree = json.loads(encode_manifest(good_manifest()))
    del tree["lost_requests"]
    assert decode_manifest(json.dumps(tree).encode(), "run.json").lost_requests is None


def test_lost_requests_are_those_of_engines_without_a_final() -> None:
    """In flight and waiting by their last sums; an engine with a FINAL left nothing unknown."""
    sums = msgspec.structs.replace(SUMS, planned=10, sent=6, dropped=1, ok=4, in_flight_at_stop=2)
    engines = [
        EngineSums(agent="a1", engine=f"a1/{n}", has_final=n == 0, sums=sums) for n in range(3)
    ]
    assert lost_requests_of(engines) == LostRequests(in_flight=4, in_backlog=6)


def changed(path: str, value: object) -> bytes:
    """The good manifest with one value of its JSON replaced; a dot goes one level down."""
    tree = json.loads(encode_manifest(good_manifest()))
    *parents, last = path.split(".")
    place = tree
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("seed", "seven", "seed"),
        ("colour", "red", "colour"),
        ("host.colour", "red", "colour"),
        ("outcome", "fine", "fine"),
        ("t0_unix_ns", 1.5, "t0_unix_ns"),
        ("run_id", "../../etc/passwd", "run id"),
        ("run_id", "20260923T010640Z_a/b_0123abcd", "run id"),
        ("nodes", ["n1", "n1"], "unique"),
        ("stages", [], "named"),
    ],
)
def test_a_wrong_manifest_is_refused(path: str, value: object, named: str) -> None:
    """Wrong types, unknown keys, unknown words and hostile ids are named and refused."""
    with pytest.raises(HarnessError, match=named):
        decode_manifest(changed(path, value), "run.json")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema_version":"1"}']
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    """Bytes of anything else are an error with a sentence."""
    with pytest.raises(HarnessError, match=r"run\.json"):
        decode_manifest(data, "run.json")


@pytest.mark.parametrize(
    ("offset_ns", "judged"),
    [
        (0, [2, 3, 4, 5, 6, 7]),  # on whole seconds nothing is lost
        (1, [3, 4, 5, 7]),  # else the second of the start and that of the end are mixed
        (999_999_999, [3, 4, 5, 7]),
    ],
)
def test_windows_partly_outside_a_stage_are_not_judged(offset_ns: int, judged: list[int]) -> None:
    """Judged are windows wholly inside the stage, and later ones with its late answers."""
    manifest = replaced(good_manifest(), t0_unix_ns=T0_S * 1_000_000_000 + offset_ns)
    assert [s for s in range(8) if manifest.judges(1, T0_S + s)] == judged


def test_nothing_is_judged_without_a_start() -> None:
    """A run that never passed its start barrier has no judged window."""
    manifest = replaced(good_manifest(), t0_unix_ns=None)
    assert not any(manifest.judges(1, T0_S + s) for s in range(8))


def test_host_facts_are_of_this_machine() -> None:
    """Cores, memory and versions are read, not made up."""
    facts = host_facts()
    assert facts.cores >= 1
    assert facts.memory_bytes > 2**26
    assert facts.python.startswith("CPython 3.")
    assert package_versions()["numpy"][0].isdigit()


def test_the_git_commit_says_when_files_were_changed(tmp_path: Path) -> None:
    """A clean tree has its commit, a changed one is marked, a folder without git has none."""
    folder = tmp_path
    assert git_commit(folder) is None

    def git(*words: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", str(folder), *identity, *words], check=True,
                       capture_output=True)  # fmt: skip

    git("init")
    (folder / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    commit = git_commit(folder)
    assert commit is not None
    assert len(commit) == 40
    (folder / "file").write_text("two")
    assert git_commit(folder) == f"{commit}+dirty"
