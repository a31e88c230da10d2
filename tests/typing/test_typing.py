"""The library's types hold mistakes against their authors, in mypy and in pyright."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from realtime_bus.routing import _generate

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Found = dict[str, dict[int, str]]


def run_mypy(cache: Path) -> Found:
    """Return mypy's complaints, by file and line."""
    command = [sys.executable, "-m", "mypy", f"--config-file={ROOT / 'pyproject.toml'}"]
    files = [str(HERE / name) for name in ("must_pass.py", "must_fail.py")]
    options = [f"--cache-dir={cache}", "--no-error-summary", *files]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    found: Found = {}
    for line in done.stdout.splitlines():
        match = re.match(r"(.+?):(\d+): error: (.*)", line)
        if match is not None:
            found.setdefault(Path(match[1]).name, {})[int(match[2])] = match[3]
    return found


def run_pyright(_cache: Path) -> Found:
    """Return pyright's complaints, by file and line."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    project = ["-p", str(HERE / "pyrightconfig.json")]
    done = subprocess.run([*command, *project], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    found: Found = {}
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        if one["severity"] == "error":
            line = one["range"]["start"]["line"] + 1
            found.setdefault(Path(one["file"]).name, {})[line] = one["message"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", [run_mypy, run_pyright])
def test_type_checkers_accept_what_is_right_and_find_what_is_wrong(
    run: Callable[[Path], Found], tmp_path: Path
) -> None:
    """Each line marked ``E:`` is an error, and no other line is."""
    found = run(tmp_path)
    assert found.get("must_pass.py", {}) == {}
    lines = (HERE / "must_fail.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if "# E:" in line}
    wrong = found.get("must_fail.py", {})
    assert {n: lines[n - 1] for n in marked - wrong.keys()} == {}, "not found"
    assert {n: wrong[n] for n in wrong.keys() - marked} == {}, "not expected"


def test_the_generated_types_are_current() -> None:
    """`_typed.py` is what the generator writes from the vocabulary."""
    written = _generate.PATH.read_text(encoding="utf-8")
    assert written == _generate.render(), "run python -m realtime_bus.routing._generate"
