"""The engine's hot modules as machine code: mypyc's, made from the same source.

    python -m loadtests.compiled    makes it; a minute or two, once for each change of the source

What is compiled is what runs for each request, response, frame or turn of the loop. Modules
that live on NumPy or on C libraries stay as they are. Without machine code that was made from
this very source by this very Python, plain Python runs: the same code, for more CPU.
`HEADROOM_PLAIN=1` asks for plain Python. `host.python` of an archive says "engine compiled"
where it was.

Making it takes mypy, setuptools, a C compiler and Python's headers; using it takes none. Exit
codes: 0 it is there, 3 it cannot be made here; anything else is a fault of the source.
"""

from __future__ import annotations

import fcntl
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

PLAIN: Final = "HEADROOM_PLAIN"  # environment variable: anything but "" and "0" asks for it
NOT_HERE: Final = 3  # exit code
MODULES: Final = (
    "answer_forms", "closed", "connection", "exchange", "frames", "gate", "http1", "http2",
    "listener", "multiplexed", "multiplexed_pool", "outlet", "pacer", "peer_faults",
    "peer_frames", "pipelined", "pool", "recorder", "run", "sender", "stream_outcomes",
    "stream_reader", "task", "timer", "traffic",
)  # fmt: skip

_GROUP: Final = "headroom_engine"
_LIBRARY: Final = f"{_GROUP}__mypyc"  # what all of them are in; mypyc's name for it
_PACKAGE: Final = Path(__file__).resolve().parent
_ENGINE: Final = Path("loadtests", "engine")
_MADE: Final = _PACKAGE / "engine" / "_compiled"
_CONTENTS: Final = "contents"  # file: mypy's version, then size and path of every other file
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


class NotHereError(Exception):
    """Machine code cannot be made on this host, or was not."""


def _folder_for(package: Path) -> Path:
    """Where the machine code of a package's source for this Python belongs."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in package.glob(pattern)):
        name = str(path.relative_to(package))
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return _MADE / f"{_python()}-{digest.hexdigest()[:_DIGITS]}"


def _python() -> str:
    """Name the Python at hand: two of one version may have been compiled differently."""
    build = f"{sys.version} {sysconfig.get_config_var('CFLAGS')}"
    digest = hashlib.sha256(build.encode()).hexdigest()[:_DIGITS]
    return f"{sysconfig.get_config_var('SOABI')}-{digest}"


@cache
def folder() -> Path:
    """Where the machine code of this source is, if it was made."""
    return _folder_for(_PACKAGE)


def _listed(of: Path) -> str:
    """Size and path of every file but the list itself."""
    files = sorted(path for path in of.rglob("*") if path.is_file() and path.name != _CONTENTS)
    return "".join(f"{path.stat().st_size} {path.relative_to(of)}\n" for path in files)


def _maker(of: Path) -> str | None:
    """The mypy that made what is there; None where it is not there, or not whole."""
    try:
        maker, _, listed = (of / _CONTENTS).read_text().partition("\n")
        return maker if listed == _listed(of) else None
    except OSError:
        return None


@cache
def is_used() -> bool:
    """Whether this process, and engines that it starts, run machine code."""
    if os.environ.get(PLAIN, "") not in ("", "0") or _maker(folder()) is None:
        return False
    (library,) = folder().glob(f"{_LIBRARY}.*")
    spec = importlib.util.spec_from_file_location(_LIBRARY, library)
    if spec is None or spec.loader is None:
        return False
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:  # made on another system
        sys.stderr.write(f"engine runs as plain Python: {error}\n")
        return False
    # The modules ask for it by name, and it is in no folder that is searched.
    sys.modules[_LIBRARY] = module
    return True


def modules_first(path: list[str]) -> None:
    """Let the engine's package, whose search path this is, find compiled modules first."""
    if is_used():
        path.insert(0, str(folder() / _ENGINE))


@contextmanager
def _workshop() -> Iterator[Path]:
    """A folder with a copy of the source in it, to be in: mypy finds no configuration there."""
    with tempfile.TemporaryDirectory(prefix="headroom-compiling-") as name, chdir(name):
        for path in (path for pattern in ("*.py", *_SOURCES) for path in _PACKAGE.glob(pattern)):
            copy = Path("loadtests", path.relative_to(_PACKAGE))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        yield Path(name, "loadtests")


def _compile(into: str) -> None:
    """Compile the source in this folder; NotHereError where something for it is missing."""
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - who only uses the code has no mypy
        from setuptools import Distribution, errors  # noqa: PLC0415 - the same
    except ImportError as error:
        raise NotHereError(str(error)) from error

    options = ["--follow-imports=silent", "--ignore-missing-imports"]
    sources = [str(_ENGINE / f"{name}.py") for name in MODULES]
    extensions = mypycify([*options, *sources], group_name=_GROUP, opt_level="2", target_dir="c")
    distribution = Distribution({"name": _GROUP, "ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = into, "objects"
    command.ensure_finalized()
    try:
        command.run()
    except (
        errors.BaseError,
        errors.CCompilerError,
        errors.CompileError,
        errors.LinkError,
    ) as error:
        raise NotHereError(str(error)) from error


@contextmanager
def _alone() -> Iterator[None]:
    """One maker at a time; what one that was killed has left behind goes."""
    try:
        _MADE.mkdir(exist_ok=True)
        lock = (_MADE / ".lock").open("w")
    except OSError as error:
        raise NotHereError(str(error)) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in (*_MADE.glob(".coming-*"), *_MADE.glob(".going-*")):
            shutil.rmtree(left)
        yield


def _put(made: Path, to: Path, maker: str) -> None:
    """Put machine code where engines look for it, at once; what older source made goes."""
    with tempfile.TemporaryDirectory(dir=_MADE, prefix=".going-") as going:
        for older in _MADE.glob(f"{_python()}-*"):
            older.rename(Path(going, older.name))
    coming = Path(tempfile.mkdtemp(dir=_MADE, prefix=".coming-"), "made")
    shutil.copytree(made, coming)
    (coming / _CONTENTS).write_text(f"{maker}\n{_listed(coming)}")
    coming.parent.chmod(0o755)
    coming.rename(to)
    coming.parent.rmdir()


def make() -> None:
    """Make it, unless it is there, and by no other mypy than the one that is here."""
    if _maker(folder()) is not None and not os.access(_MADE, os.W_OK):
        return  # nobody can make it anew, and it is used
    with _alone():
        if _is_made(_folder_for(_PACKAGE)):
            return
        with _workshop() as package:
            sys.stderr.write(f"compiling {len(MODULES)} modules, a minute or two ...\n")
            _compile("made")
            _put(Path("made"), _folder_for(package), _mypy())


def _is_made(to: Path) -> bool:
    """Whether it is there, made by the mypy that is here, or by any where there is none."""
    maker = _maker(to)
    return maker is not None and _mypy() in (maker, "")


def _mypy() -> str:
    """The version that is installed, "" for none."""
    from importlib import metadata  # noqa: PLC0415 - slow, and only for makers

    try:
        return metadata.version("mypy")
    except metadata.PackageNotFoundError:
        return ""


def main() -> None:
    """Make it, or say why not."""
    try:
        make()
    except NotHereError as error:
        sys.stderr.write(f"not compiled: {error}\nEngines run as plain Python.\n")
        sys.exit(NOT_HERE)
    sys.stderr.write(f"engine compiled: {folder()}\n")


if __name__ == "__main__":
    main()
