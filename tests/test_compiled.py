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


def _loaded(root: Path, *, plain: str = "") -> str:
    """File that an engine's process with this package loads its pacer from."""
    environment = {**os.environ, "PYTHONPATH": str(root), compiled.PLAIN: plain}
    done = subprocess.run(
        [sys.executable, "-c", _TELL],
        cwd=root,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def _copy(to: Path) -> Path:
    """Copy the package, with its machine code, so that it can be changed."""
    shutil.copytree(_PACKAGE, to / "loadtests", ignore=shutil.ignore_patterns("__pycache__"))
    return to / "loadtests"


def _require_compiled() -> None:
    if not compiled.is_used():
        pytest.skip("no machine code of this source here: python -m loadtests.compiled")


def test_machine_code_is_used_unless_plain_python_is_asked_for(tmp_path: Path) -> None:
    """The same package both ways."""
    _require_compiled()
    package = _copy(tmp_path)
    assert Path(_loaded(tmp_path)).suffix == ".so"
    assert _loaded(tmp_path, plain="1") == str(package / "engine" / "pacer.py")


@pytest.mark.parametrize("name", ["engine/pacer.py", "plan/model.py", "record/window.py"])
def test_machine_code_of_other_source_is_not_used(tmp_path: Path, name: str) -> None:
    """A changed module, or one whose constants are in the code: plain Python, never old code."""
    _require_compiled()
    package = _copy(tmp_path)
    path = package / name
    path.write_text(path.read_text() + "\n# changed\n")
    assert _loaded(tmp_path) == str(package / "engine" / "pacer.py")


def test_without_a_compiler_the_reason_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    """Exit 1 and one sentence, no traceback."""
    package = _copy(tmp_path)
    shutil.rmtree(package / "engine" / "_compiled", ignore_errors=True)
    hide = "import sys, runpy; sys.modules['mypyc'] = None; "
    run = "runpy.run_module('loadtests.compiled', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", hide + run],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "\nnot compiled: " in done.stderr
    assert "mypyc" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (package / "engine" / "_compiled").exists()
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
