"""Machine code is used where it was made of this source, and nowhere else."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import compiled

_PACKAGE = Path(compiled.__file__).parent
_TELL = "import loadtests.engine.pacer as p; print(p.__file__)"
# What takes all of a generator expression: a list of it, which is what mypyc makes, will do.
_LOOPS = frozenset({"all", "any", "dict", "join", "max", "min", "set", "sorted", "sum", "tuple"})


def _run(root: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with the package in a folder."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def _loaded(root: Path, *, plain: str = "") -> str:
    """File that an engine's process with this package loads its pacer from."""
    done = _run(root, _TELL, **{compiled.PLAIN: plain})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _copy(to: Path) -> Path:
    """Copy the package, with its machine code, so that it can be changed."""
    shutil.copytree(_PACKAGE, to / "loadtests", ignore=shutil.ignore_patterns("__pycache__"))
    return to / "loadtests"


def _require_compiled() -> None:
    if not compiled.is_used():
        pytest.skip("no machine code of this source here: python -m loadtests.compiled")


def _made(package: Path) -> Path:
    """Folder of the machine code in a copy of the package."""
    return package / "engine" / "_compiled" / compiled.folder().name


def _make(root: Path, before: str = "pass") -> subprocess.CompletedProcess[str]:
    """Run the maker on a copy, without a C compiler, with Python code before it."""
    run = f"from loadtests import compiled; {before}; compiled.main()"
    return _run(root, run, CC="/nonexistent")


@pytest.mark.parametrize(("plain", "is_plain"), [("", False), ("0", False), ("1", True)])
def test_machine_code_is_used_unless_plain_python_is_asked_for(
    tmp_path: Path, plain: str, *, is_plain: bool
) -> None:
    """The same package both ways."""
    _require_compiled()
    package = _copy(tmp_path)
    suffix = "/loadtests/engine/pacer.cpython" if not is_plain else "/loadtests/engine/pacer.py"
    assert suffix in _loaded(tmp_path, plain=plain)
    assert _made(package).is_dir()


@pytest.mark.parametrize("name", ["engine/pacer.py", "plan/model.py", "record/window.py"])
def test_machine_code_of_other_source_is_not_used(tmp_path: Path, name: str) -> None:
    """A changed module, or one whose constants are in the code: plain Python, never old code."""
    _require_compiled()
    package = _copy(tmp_path)
    path = package / name
    path.write_text(path.read_text() + "\n# changed\n")
    assert _loaded(tmp_path) == str(package / "engine" / "pacer.py")


@pytest.mark.parametrize("which", ["headroom_engine__mypyc.*", "**/pacer.*", "contents"])
@pytest.mark.parametrize("is_cut", [True, False])
def test_what_is_not_whole_is_not_used(tmp_path: Path, which: str, *, is_cut: bool) -> None:
    """A file is cut, or gone: all of the engine is plain Python."""
    _require_compiled()
    package = _copy(tmp_path)
    (path,) = _made(package).glob(which)
    if is_cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    assert _loaded(tmp_path) == str(package / "engine" / "pacer.py")


def test_what_is_there_is_not_made_again_and_litter_goes(tmp_path: Path) -> None:
    """Also by a maker that has no compiler; what a killed one left is removed."""
    _require_compiled()
    package = _copy(tmp_path)
    left = [package / "engine" / "_compiled" / name for name in (".coming-x", ".going-y")]
    for folder in left:
        folder.mkdir()
    done = _make(tmp_path)
    assert (done.returncode, "compiling" in done.stderr) == (0, False), done.stderr
    assert not any(folder.exists() for folder in left)
    assert _loaded(tmp_path) != str(package / "engine" / "pacer.py")


def test_what_is_there_needs_no_maker_where_nothing_may_be_written(tmp_path: Path) -> None:
    """On a read-only file system, as the kernel tells it to root."""
    _require_compiled()
    package = _copy(tmp_path)
    refuse = "import os; os.access = lambda path, mode: False; "
    refuse += "from pathlib import Path; Path.mkdir = None"
    done = _make(tmp_path, refuse)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"engine compiled: {_made(package)}\n"


@pytest.mark.parametrize(
    ("before", "seen"),
    [
        ("import sys; sys.modules['mypyc'] = None", "mypyc"),
        ("compiled.MODULES = ('listener',)", "/nonexistent"),  # so that it takes seconds
    ],
)
def test_without_a_tool_the_reason_is_told_and_nothing_is_left(
    tmp_path: Path, before: str, seen: str
) -> None:
    """Exit 3 and one sentence, no traceback."""
    package = _copy(tmp_path)
    shutil.rmtree(package / "engine" / "_compiled", ignore_errors=True)
    done = _make(tmp_path, before)
    assert done.returncode == compiled.NOT_HERE, done.stderr
    assert "\nnot compiled: " in done.stderr
    assert seen in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (package / "engine" / "_compiled").iterdir()] == [".lock"]
    assert _loaded(tmp_path) == str(package / "engine" / "pacer.py")


def _name(called: ast.expr) -> str:
    return getattr(called, "id", "") or getattr(called, "attr", "")


def test_no_compiled_module_counts_on_a_lazy_generator_expression() -> None:
    """Compiled, it would run to its end at once: a generator function or `map` stays lazy."""
    for name in compiled.MODULES:
        tree = ast.parse((_PACKAGE / "engine" / f"{name}.py").read_text())
        consumed = {
            id(argument)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _name(node.func) in _LOOPS
            for argument in node.args
        }
        lazy = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.GeneratorExp) and id(node) not in consumed
        ]
        assert not lazy, f"{name}.py, lines {lazy}"
