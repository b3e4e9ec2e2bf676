"""The engine's hot modules as machine code: mypyc's, made from the same source.

    python -m loadtests.compiled    makes it; a minute, once for each change of the source

What is compiled is what runs once per request, response or frame. Modules that live on NumPy
or on C libraries stay as they are, and so does everything that is not hot. Without machine
code that was made from this very source for this very Python, plain Python runs: the same
code, which takes 1.3 times the CPU for its own part of a request. `HEADROOM_PLAIN=1` asks for
that. Every archive says which it was (`host.python`).

Making it takes mypy, setuptools, a C compiler and Python's headers; using it takes none.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from functools import cache
from pathlib import Path
from typing import Final

PLAIN: Final = "HEADROOM_PLAIN"  # environment variable: not empty asks for plain Python
MODULES: Final = (
    "answer_forms", "closed", "connection", "exchange", "frames", "gate", "http1", "http2",
    "listener", "multiplexed", "multiplexed_pool", "outlet", "pacer", "peer_frames",
    "pipelined", "pool", "recorder", "run", "sender", "stream_outcomes", "stream_reader",
    "task", "timer", "traffic",
)  # fmt: skip

_GROUP: Final = "headroom_engine"
_LIBRARY: Final = f"{_GROUP}__mypyc"  # what all of them are in; mypyc's name for it
_PACKAGE: Final = Path(__file__).resolve().parent
_ENGINE: Final = Path("loadtests", "engine")
_MADE: Final = _PACKAGE / "engine" / "_compiled"
# mypyc puts constants of other modules into the code: a change of theirs counts as well.
_SOURCES: Final = (
    "engine/*.py",
    "plan/*.py",
    "record/*.py",
    "clock.py",
    "compiled.py",
    "errors.py",
)
_DIGITS: Final = 16


@cache
def folder() -> Path:
    """Where the machine code of this source for this Python is, if it was made."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in _PACKAGE.glob(pattern)):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return _MADE / f"{_abi()}-{digest.hexdigest()[:_DIGITS]}"


def _abi() -> str:
    return str(sysconfig.get_config_var("SOABI"))


def is_used() -> bool:
    """Whether engines that start now run machine code."""
    return not os.environ.get(PLAIN) and folder().is_dir()


def modules_first(path: list[str]) -> None:
    """Let the engine's package, whose search path this is, find compiled modules first."""
    if not is_used():
        return
    (library,) = folder().glob(f"{_LIBRARY}.*")
    spec = importlib.util.spec_from_file_location(_LIBRARY, library)
    if spec is None or spec.loader is None:
        return
    # The modules ask for it by name, and it is in no folder that is searched.
    sys.modules[_LIBRARY] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path.insert(0, str(folder() / _ENGINE))


@contextmanager
def _workshop() -> Iterator[None]:
    """A folder with the source in it, to be in: mypy finds no configuration there."""
    with tempfile.TemporaryDirectory(prefix="headroom-compiling-") as name, chdir(name):
        for path in (path for pattern in ("*.py", *_SOURCES) for path in _PACKAGE.glob(pattern)):
            copy = Path("loadtests", path.relative_to(_PACKAGE))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        yield


def _compile(into: str) -> None:
    """Compile the source in this folder; ImportError, OSError when something is missing."""
    from mypyc.build import mypycify  # noqa: PLC0415 - who only uses the code has no mypy
    from setuptools import Distribution  # noqa: PLC0415 - the same
    from setuptools.errors import BaseError  # noqa: PLC0415 - the same

    options = ["--follow-imports=silent", "--ignore-missing-imports"]
    sources = [str(_ENGINE / f"{name}.py") for name in MODULES]
    extensions = mypycify([*options, *sources], group_name=_GROUP, opt_level="2", target_dir="c")
    distribution = Distribution({"name": _GROUP, "ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = into, "objects"
    command.ensure_finalized()
    try:
        command.run()
    except BaseError as error:  # no compiler, no headers
        raise OSError(str(error)) from error


def make() -> None:
    """Put machine code where engines look for it, at once; what older source made goes."""
    with _workshop():
        _compile("made")
        _MADE.mkdir(exist_ok=True)
        for older in _MADE.glob(f"{_abi()}-*"):
            shutil.rmtree(older)
        with tempfile.TemporaryDirectory(dir=_MADE, prefix=".coming-") as coming:
            shutil.copytree("made", Path(coming, "made"))
            Path(coming, "made").rename(folder())


def main() -> None:
    """Make it, unless it is there."""
    if not folder().is_dir():
        sys.stderr.write(f"compiling {len(MODULES)} modules of the engine, a minute ...\n")
        try:
            make()
        except (ImportError, OSError) as error:
            sys.exit(f"not compiled: {error}\nEngines run as plain Python.")
    sys.stderr.write(f"engine compiled: {folder()}\n")


if __name__ == "__main__":
    main()
