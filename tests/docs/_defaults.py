"""Defaults that README.md and docs/ name, held against the signatures that have them.

A comment on the line before says whose defaults the text below tells:

``<!-- defaults: Bus.connect -->``
    before a table: its first column names parameters, its column "Default" their defaults. A
    cell in words, or an empty one, is for a default of None: it says what None stands for.
``<!-- defaults: Session.request(timeout_s=10), Voice(pitch=50) -->``
    before anything else: these parameters have these defaults, and the text down to the next
    blank line has each number and each string among them.
``<!-- defaults: nowhere, because … -->``
    before a table whose defaults stand in no signature.

A class or function is named as it is public, or by its whole path.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ._reference import public_modules

_MARK = re.compile(r"<!-- defaults: (.+) -->")
_RULE = re.compile(r"\|[ :|-]+\|")
_NUMBER = re.compile(r"(\d[\d ]*(?:\.\d+)?)(?: (KiB|MiB|s|ms))?")
_UNITS = {"KiB": 1024, "MiB": 1024 * 1024}
_NOTHING = (None, (), "", msgspec.UNSET, inspect.Parameter.empty)


def complaints(text: str) -> Iterator[str]:
    """Yield what a page says of defaults that is not so, each with its line."""
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        mark = _MARK.fullmatch(line)
        if mark is not None and not mark[1].startswith("nowhere, because "):
            block = _block_at(lines[number:])
            yield from (f"line {number}: {found}" for found in _in_block(mark[1], block))
        if mark is None and _has_defaults(lines[number : number + 2]):
            yield f"line {number + 1}: whose defaults are these? Put <!-- defaults: … --> before it"


def _block_at(lines: list[str]) -> list[str]:
    end = next((at for at, line in enumerate(lines) if not line.strip()), len(lines))
    return lines[:end]


def _has_defaults(head: list[str]) -> bool:
    return len(head) == 2 and "Default" in _cells(head[0]) and bool(_RULE.fullmatch(head[1]))


def _in_block(marked: str, block: list[str]) -> Iterator[str]:
    parsed = ast.parse(marked, mode="eval").body
    for owner in parsed.elts if isinstance(parsed, ast.Tuple) else [parsed]:
        if isinstance(owner, ast.Call):
            yield from _in_prose(owner, "\n".join(block))
        else:
            yield from _in_table(ast.unparse(owner), block)


# Prose: the mark has the values, and so has the text


def _in_prose(call: ast.Call, text: str) -> Iterator[str]:
    owner = ast.unparse(call.func)
    for keyword in call.keywords:
        claimed = ast.literal_eval(keyword.value)
        default = default_of(owner, str(keyword.arg))
        if not _same(claimed, default):
            yield f"{owner}({keyword.arg}={default!r}) is the default, not {claimed!r}"
        elif not _says(text, claimed):
            yield f"the text below does not say {claimed!r}, of {owner}({keyword.arg})"


def _says(text: str, value: object) -> bool:
    if isinstance(value, str):
        return value in text
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True  # these are said in words
    return any(_number(found[0]) == value for found in _NUMBER.finditer(text))


# Tables: the cells have the values


def _in_table(owner: str, block: list[str]) -> Iterator[str]:
    if not _has_defaults(block[:2]):
        yield f"{owner} has no table below with a column 'Default'"
        return
    column = _cells(block[0]).index("Default")
    for cells in map(_cells, block[2:]):
        names = [_parameter(name) for name in re.findall(r"`([^`]+)`", cells[0])]
        shown = cells[column].split(", ", maxsplit=max(len(names) - 1, 0))
        shown += [""] * (len(names) - len(shown))  # an empty cell is empty for each
        for parameter, cell in zip(names, shown, strict=False):
            default = default_of(owner, parameter)
            if not _shows(cell, default):
                yield f"{owner}({parameter}={default!r}) is the default, not {cell!r}"


def _parameter(name: str) -> str:
    return name.lstrip("-").split(" ")[0].replace("-", "_")  # also of a command: --script FILE


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip())[1:-1]]


def _shows(cell: str, default: object) -> bool:
    read = _read(cell)
    if any(default is nothing or default == nothing for nothing in _NOTHING):
        return read is None or isinstance(read, _Words)
    return _same(read, default) or read == getattr(default, "__name__", str(default))


class _Words(str):
    """What a cell says that is no literal: words, or a name."""

    __slots__ = ()


def _read(cell: str) -> object:
    number = _number(cell)
    if number is not None:
        return number
    try:
        return ast.literal_eval(cell.strip("`"))
    except (SyntaxError, ValueError):
        return _Words(cell.strip("`"))


def _number(text: str) -> float | None:
    found = _NUMBER.fullmatch(text.strip())
    return float(found[1].replace(" ", "")) * _UNITS.get(found[2], 1) if found else None


# Signatures


def default_of(owner: str, parameter: str) -> object:
    """Return a parameter's default; fail where there is no such parameter."""
    parameters = inspect.signature(_find(owner)).parameters
    assert parameter in parameters, f"{owner} has no parameter {parameter!r}"
    return parameters[parameter].default


@functools.cache
def _find(name: str) -> Any:
    for module in map(importlib.import_module, public_modules()):
        if name.partition(".")[0] in module.__all__:
            return pkgutil.resolve_name(f"{module.__name__}:{name}")
    return pkgutil.resolve_name(name)


def _same(claimed: object, default: object) -> bool:
    return claimed == default and isinstance(claimed, bool) == isinstance(default, bool)
