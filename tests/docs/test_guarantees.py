"""What the page of guarantees names as its proof is there."""

from __future__ import annotations

import importlib.util
import re

import pytest

from ._blocks import ROOT

_PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
_BOTH = _PAGE + (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/.:]+)`", _BOTH)))
COMMANDS = sorted(set(re.findall(r"`python -m (benchmarks[\w.]*)( --only \w+)?", _BOTH)))


@pytest.mark.parametrize("named", TESTS)
def test_a_test_that_is_named_exists(named: str) -> None:
    """As a file, and as a function in it if one is named."""
    file, _, function = named.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert "def test_" in text
    assert not function or f"def {function}(" in text


@pytest.mark.parametrize(("command", "only"), COMMANDS)
def test_a_command_that_is_named_exists(command: str, only: str) -> None:
    """As a module of the benchmarks, or as one of its sections."""
    assert importlib.util.find_spec(command) is not None
    if only:
        from benchmarks.__main__ import BENCHMARKS

        assert only.split()[1] in BENCHMARKS


def test_every_line_names_what_shows_it() -> None:
    """No row of a table of guarantees goes without."""
    tables = _PAGE.partition("## Last results")[0]
    rows = [
        line for line in tables.splitlines() if line.startswith("| ") and "Shown by" not in line
    ]
    assert len(rows) > 30
    assert [row for row in rows if "`tests/" not in row and "`python -m" not in row] == []
