"""`python -m benchmarks`: everything in under 30 minutes, or one part, or a quick look.

    python -m benchmarks                 all parts but `growth`; writes benchmarks/RESULTS.md
    python -m benchmarks --only cost     one part again, the others are kept
    python -m benchmarks --only growth   a master's memory over an hour: only when asked for
    python -m benchmarks --quick         a smoke test of those parts, elsewhere than RESULTS.md

Runs on an idle machine with two cores or more. A part that fails is named at the end and
the exit code is 1; the other parts are kept.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import parts, peers
from benchmarks.claims import judge
from benchmarks.machine import raise_descriptor_limit
from benchmarks.report import write_report
from benchmarks.results import Results, load_results, store_results
from loadtests.errors import ExitCode, HeadroomError

_HERE = Path(__file__).resolve().parent
_CORES = 2


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--only", action="append", choices=list(parts.PARTS), metavar="PART", default=[]
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test, with few and short rounds"
    )
    parser.add_argument(
        "--soak",
        type=Path,
        metavar="FOLDER",
        help="report a day as well; kept in FOLDER, and written there first, in an hour or so, "
        "when it is not there",
    )
    parser.add_argument("--list", action="store_true", help="name the parts and leave")
    parser.add_argument("--output", type=Path, help="folder of RESULTS.md and results.json")
    return parser


def _run_part(name: str, settings: parts.Settings, folder: Path) -> bool:
    """Measure one part and keep it; False when it failed."""
    print(f"{name} ...", flush=True)
    begin = time.monotonic()
    try:
        part = parts.PARTS[name](settings)
    except (HeadroomError, OSError, ValueError) as error:
        print(f"{name} FAILED: {error}", file=sys.stderr, flush=True)
        return False
    # Read again: another benchmark of another part may have stored its own meanwhile.
    results = load_results(folder / "results.json").with_part(part)
    store_results(folder / "results.json", results)
    (folder / "RESULTS.md").write_text(write_report(results))
    print(f"{name} done in {time.monotonic() - begin:.0f} s", flush=True)
    return True


def _print_claims(results: Results) -> None:
    for claim in judge(results):
        print(f"  {claim.word.strip('*'):<13} {claim.text}: {claim.measured} (limit {claim.limit})")


def main(argv: list[str]) -> int:
    """Measure what was asked for; exit code 0 when every part could be measured."""
    arguments = build_parser().parse_args(argv)
    if arguments.list:
        print("\n".join(parts.PARTS))
        return ExitCode.PASS
    if len(os.sched_getaffinity(0)) < _CORES:
        print("the benchmark needs two cores: one for the server, one for the generator")
        return ExitCode.USAGE
    peers.install_missing(peers.REST)
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="headroom-bench-") as scratch:
        quick_folder = Path(tempfile.gettempdir()) / "headroom-bench-quick"
        folder: Path = arguments.output or (quick_folder if arguments.quick else _HERE)
        folder.mkdir(parents=True, exist_ok=True)
        settings = parts.settings_for(Path(scratch), is_quick=arguments.quick, soak=arguments.soak)
        begin = time.monotonic()
        names = arguments.only or [name for name in parts.PARTS if name not in parts.LONG]
        failed = [name for name in names if not _run_part(name, settings, folder)]
    print(f"{folder / 'RESULTS.md'} after {time.monotonic() - begin:.0f} s", flush=True)
    _print_claims(load_results(folder / "results.json"))
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return ExitCode.FAIL if failed else ExitCode.PASS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
