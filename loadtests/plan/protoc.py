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


def _run(protos: Sequence[Path], includes: Sequence[Path], output: Path) -> str:
    """What protoc complained of; empty when it wrote its output."""
    command = [
        *(sys.executable, "-P", "-m", "grpc_tools.protoc"),  # -P: not what lies in this folder
        *(f"-I{include}" for include in includes),
        "--include_imports",
        f"--descriptor_set_out={output}",
        *map(str, protos),
    ]
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter; arguments are file names
            command,
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

    Without `includes` the folders of the files are searched for imports. Each line that
    protoc complains with (file, line and column first) is one mistake.
    """
    before = len(mistakes.found)
    files, folders = [folder / proto for proto in protos], [folder / name for name in includes]
    for index, file in enumerate(files):
        if not file.is_file():
            mistakes.add(f"grpc.protos[{index}]", shown(protos[index]), "a file that exists")
    for index, include in enumerate(folders):
        if not include.is_dir():
            mistakes.add(f"grpc.includes[{index}]", shown(includes[index]), "a folder that exists")
    if len(mistakes.found) > before:
        return None
    searched = folders or list(dict.fromkeys(file.parent for file in files))
    with tempfile.TemporaryDirectory(prefix="headroom-protoc-") as scratch:
        output = Path(scratch) / "descriptors"
        errors = _run(files, searched, output)
        if not errors:
            return output.read_bytes()
    lines = [line for line in errors.splitlines() if line.strip() and ": warning: " not in line]
    for line in lines[:MOST_ERRORS]:
        mistakes.add("grpc.protos", line.strip(), PROTO_EXPECTED)
    return None
