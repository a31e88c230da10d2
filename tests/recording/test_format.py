"""The documented format, held against the structs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args

import msgspec

from realtime_bus.recording import FORMAT_VERSION, Header, Line

PAGE = Path(__file__).parents[2] / "docs" / "recording.md"


def rows() -> dict[str, tuple[str, str]]:
    """Return struct and text of each kind in the page's table."""
    table = PAGE.read_text(encoding="utf-8").split("<!-- format -->\n")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    return {kind.strip("`"): (struct.strip("`"), text) for kind, struct, text in cells}


def test_the_table_has_every_kind_and_every_field() -> None:
    """And no other."""
    found = rows()
    structs = {str(cls.__struct_config__.tag): cls for cls in get_args(Line)}
    assert found.keys() == structs.keys()
    for kind, cls in structs.items():
        struct, text = found[kind]
        assert struct == cls.__name__
        named = set(re.findall(r"`(\w+)`", text)) - {"played_ms", "written_ms"}
        assert named == {field.name for field in msgspec.structs.fields(cls)} - {"t_us"}, kind


def test_every_field_is_documented_in_its_struct() -> None:
    """Who reads the code finds the same."""
    for cls in get_args(Line):
        documented = inspect.getdoc(cls) or ""  # Python takes the margin away itself since 3.13
        described = set(re.findall(r"^    (\w+): ", documented, re.MULTILINE))
        fields = {field.name for field in msgspec.structs.fields(cls)}
        assert described == fields or "the same fields" in documented, cls


def test_the_version_is_the_headers_default() -> None:
    """A header that names none is of the version before there were any others."""
    assert Header(t_us=0).version == FORMAT_VERSION == 1
