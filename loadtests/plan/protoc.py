"""Users' .proto files into a descriptor set, with the protoc of grpcio-tools.

A process of its own: protoc writes its errors to the descriptor 2 and ends its process on
some of them. It writes nothing but a file in a temporary folder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtests.plan.values import Mistakes, shown

TIMEOUT_S: Final = 60.0
MOST_ERRORS: Final = 20
PROTO_EXPECTED: Final = "proto files that compile"


def _run(folder: Path, protos: Sequence[str], includes: Sequence[str], output: Path) -> str:
    """What protoc, run in `folder`, complained of; empty when it wrote its output."""
    command = [
        *(sys.executable, "-P", "-m", "grpc_tools.protoc"),  # -P: not what lies in this folder
        *(f"-I{include}" for include in includes),
        "--include_imports",
        f"--descriptor_set_out={output}",
        *protos,
    ]
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter; arguments are file names
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {TIMEOUT_S:g} s"
    return "" if ended.returncode == 0 else ended.stderr or f"exit code {ended.returncode}"


def compile_protos(
    folder: Path, protos: Sequence[str], includes: Sequence[str], mistakes: Mistakes
) -> bytes | None:
    """The descriptor set of files relative to `folder`, imports included, or None.

    protoc runs in `folder`, so that its messages name files as the scenario does. Without
    `includes` the folders of the files are searched for imports. Each line that
    protoc complains with (file, line and column first) is one mistake.
    """
    before = len(mistakes.found)
    for index, name in enumerate(protos):
        # protoc takes options and @files of options where it takes names.
        if name.startswith(("-", "@")) or not (folder / name).is_file():
            mistakes.add(f"grpc.protos[{index}]", shown(name), "a file that exists")
    for index, name in enumerate(includes):
        if not (folder / name).is_dir():
            mistakes.add(f"grpc.includes[{index}]", shown(name), "a folder that exists")
    if len(mistakes.found) > before:
        return None
    searched = includes or list(dict.fromkeys(str(Path(name).parent) for name in protos))
    with tempfile.TemporaryDirectory(prefix="headroom-protoc-") as scratch:
        output = Path(scratch) / "descriptors"
        errors = _run(folder, protos, searched, output)
        if not errors:
            return output.read_bytes()
    lines = [line for line in errors.splitlines() if line.strip() and ": warning: " not in line]
    for line in lines[:MOST_ERRORS]:
        mistakes.add("grpc.protos", line.strip(), PROTO_EXPECTED)
    return None
