"""Reading docstrings in Google's style: the first paragraph, and what is said of each name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Docs", "read_docstring"]

_SECTIONS = frozenset({"args:", "arguments:", "parameters:", "attributes:"})
_ENTRY = re.compile(r"(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_HEADER = re.compile(r"[A-Z][\w ]*:$")


class Docs(NamedTuple):
    """What a docstring says.

    Attributes:
        summary: Its first paragraph on one line, or None.
        names: What it says of each parameter or attribute, on one line each.
    """

    summary: str | None
    names: dict[str, str]


def read_docstring(text: str | None) -> Docs:
    """Take a docstring apart; one that is in no known style gives its first paragraph."""
    lines = inspect.cleandoc(text or "").splitlines()
    return Docs(_first_paragraph(lines), _entries(_section(lines)))


def _first_paragraph(lines: list[str]) -> str | None:
    found: list[str] = []
    for line in lines:
        if not line.strip() or _HEADER.match(line):
            break
        found.append(line.strip())
    return " ".join(found) or None


def _section(lines: list[str]) -> Iterable[str]:
    """Yield the indented lines below ``Args:``, or a heading that means the same."""
    inside = False
    for line in lines:
        if line and not line[0].isspace():
            inside = line.strip().lower() in _SECTIONS
        elif inside and line.strip():
            yield line


def _entries(lines: Iterable[str]) -> dict[str, str]:
    """Read ``name: text`` and ``name (type): text``, where deeper lines go on with the text."""
    found: dict[str, str] = {}
    name, margin = "", None
    for line in lines:
        depth = len(line) - len(line.lstrip())
        margin = depth if margin is None else margin
        entry = _ENTRY.match(line.strip()) if depth <= margin else None
        if entry is not None:
            name, found[entry[1]] = entry[1], entry[2].strip()
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
