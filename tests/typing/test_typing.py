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
SAMPLES = ("must_pass.py", "must_fail.py", "mistyped.py")
Found = dict[str, dict[int, list[str]]]


def run_mypy(folder: Path, config: Path = ROOT / "pyproject.toml") -> Found:
    """Return what mypy says, notes included, by file and line."""
    command = [sys.executable, "-m", "mypy", f"--config-file={config}", f"--cache-dir={folder}"]
    files = [str(HERE / name) for name in SAMPLES]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False, cwd=ROOT)
    assert not done.stderr, done.stderr
    found: Found = {}
    for line in done.stdout.splitlines():
        match = re.match(r"(.+?):(\d+): (?:error|note): (.*)", line)
        if match is not None:
            lines = found.setdefault(Path(match[1]).name, {})
            lines.setdefault(int(match[2]), []).append(match[3])
    return found


def run_mypy_with_plugin(folder: Path) -> Found:
    """Return the same with the library's plugin for mypy."""
    config = folder / "pyproject.toml"
    tables = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = '[tool.mypy]\nplugins = ["realtime_bus.mypy"]\n'
    config.write_text(tables.replace("[tool.mypy]\n", table), encoding="utf-8")
    return run_mypy(folder, config)


def run_pyright(_folder: Path) -> Found:
    """Return pyright's complaints, by file and line."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    project = ["-p", str(HERE / "pyrightconfig.json")]
    done = subprocess.run([*command, *project], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    found: Found = {}
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        if one["severity"] == "error":
            lines = found.setdefault(Path(one["file"]).name, {})
            lines.setdefault(one["range"]["start"]["line"] + 1, []).append(one["message"])
    return found


def expected(name: str) -> dict[int, str]:
    """Return the lines of a sample that are marked, and what their marks say."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    marks = {number: line.partition("# E: ")[2] for number, line in enumerate(lines, 1)}
    return {number: mark for number, mark in marks.items() if mark}


@pytest.mark.slow
@pytest.mark.parametrize("run", [run_mypy, run_mypy_with_plugin, run_pyright])
def test_type_checkers_accept_what_is_right_and_find_what_is_wrong(
    run: Callable[[Path], Found], request: pytest.FixtureRequest
) -> None:
    """Each marked line is an error, and no other line is; mypy is brief about mistyped names."""
    # what mypy knows of others' packages is kept for the next run: it is most of its work
    found = run(request.config.cache.mkdir(run.__name__))
    for name in SAMPLES:
        marked, wrong = expected(name), found.get(name, {})
        assert {n: text for n, text in marked.items() if n not in wrong} == {}, f"not in {name}"
        assert {n: text for n, text in wrong.items() if n not in marked} == {}, f"in {name}"
    if run is not run_pyright:
        said = found["mistyped.py"]
        assert [texts for texts in said.values() if len(texts) > 1] == []
        if run is run_mypy_with_plugin:
            assert {n: texts[0].removesuffix("  [arg-type]") for n, texts in said.items()} == (
                expected("mistyped.py")
            )


def test_the_generated_types_are_current() -> None:
    """`_typed.py` is what the generator writes from the vocabulary."""
    written = _generate.PATH.read_text(encoding="utf-8")
    assert written == _generate.render(), "run python -m realtime_bus.routing._generate"
