"""Writes docs/reference.md: every public name, with the first line of its docstring."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypeGuard

import realtime_bus_plugins
from realtime_bus import events as ev
from realtime_bus.events import translation

from ._blocks import ROOT

PAGE = ROOT / "docs" / "reference.md"

_CORE = (
    "realtime_bus",
    "realtime_bus.audio",
    "realtime_bus.log",
    "realtime_bus.codec",
    "realtime_bus.transport",
    "realtime_bus.server",
    "realtime_bus.server.faults",
    "realtime_bus.testing",
)

_HEAD = """\
# Reference

Every public name, with the first line of its docstring; the docstring has the rest
(`help(realtime_bus.Bus.connect)`). This page is generated: after a change, run
`WRITE_REFERENCE=1 uv run pytest tests/docs`.
"""


def plugin_modules() -> list[str]:
    """Return the plugin package's public modules."""
    found = pkgutil.iter_modules(realtime_bus_plugins.__path__, "realtime_bus_plugins.")
    return [module.name for module in found if "._" not in module.name]


def public_modules() -> list[str]:
    """Return every module whose `__all__` is a promise."""
    return [*_CORE, "realtime_bus.events", "realtime_bus.events.translation", *plugin_modules()]


def page() -> str:
    """Return the page's text."""
    modules = [*_CORE, *plugin_modules()]
    return "\n".join([_HEAD, *map(_section, modules), *_event_sections()])


def _section(name: str) -> str:
    module = importlib.import_module(name)
    rows = [(f"`{public}`", summary(module, public)) for public in module.__all__]
    return _table(f"`{name}`", ("Name", "What it is"), rows)


def _table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
    return "\n".join([f"## {title}", "", *cells, ""])


# Events are listed by wire name, their objects by name


def _event_sections() -> Iterator[str]:
    head = ("Wire name", "Class", "What it means")
    yield _table("`realtime_bus.events`: from the server", head, _events(ev.REALTIME.server))
    yield _table("`realtime_bus.events`: from the client", head, _events(ev.REALTIME.client))
    yield _table("`realtime_bus.events`: the bus's own", head, _events(ev.BUS_EVENTS))
    yield _objects(ev, "`realtime_bus.events`: objects and types")
    yield _table(
        "`realtime_bus.events.translation`: from the server",
        head,
        _events(ev.TRANSLATION.server),
    )
    yield _table(
        "`realtime_bus.events.translation`: from the client",
        head,
        _events(ev.TRANSLATION.client),
    )
    yield _objects(translation, "`realtime_bus.events.translation`: objects")


def _events(table: Any) -> list[tuple[str, str, str]]:
    return [(f"`{wire}`", f"`{cls.__name__}`", _first_line(cls)) for wire, cls in table.items()]


def _objects(module: types.ModuleType, title: str) -> str:
    bases = {ev.Event, ev.ServerEvent, ev.ClientEvent, ev.BusEvent, ev.AppEvent}
    rows: list[tuple[str, str]] = []
    for name in module.__all__:
        found = getattr(module, name)
        if inspect.isclass(found) and issubclass(found, ev.Event) and found not in bases:
            continue
        rows.append((f"`{name}`", summary(module, name)))
    return _table(title, ("Name", "What it is"), rows)


# One line about a name


def summary(module: types.ModuleType, name: str) -> str:
    """Return what a public name is, in a line."""
    found = getattr(module, name)
    named = getattr(found, "__name__", "").rpartition(".")[2] == name  # an alias has another
    if named and not inspect.ismethod(found):
        return _first_line(found)
    return _documented_in_source(module, name) or _described(found)


def _first_line(found: object) -> str:
    return (inspect.getdoc(found) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")


def _described(found: object) -> str:
    members = typing.get_args(found)
    if members:
        return "One of " + ", ".join(f"`{_shown(member)}`" for member in members) + "."
    return f"An instance of `{type(found).__name__}`."


def _shown(member: object) -> str:
    return member.__name__ if isinstance(member, type) else repr(member)


def _documented_in_source(module: types.ModuleType, name: str) -> str:
    """Return the text under a constant's or alias's assignment, in the file that has it."""
    package = Path(inspect.getfile(module))
    files = package.parent.rglob("*.py") if package.name == "__init__.py" else [package]
    for statement, text in chain.from_iterable(map(_documented, sorted(files))):
        if _assigns(statement, name):
            return inspect.cleandoc(text).partition("\n\n")[0].replace("\n", " ")
    return ""


@functools.cache
def _documented(file: Path) -> list[tuple[ast.stmt, str]]:
    """Return a file's statements that have a text below them."""
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    blocks = [node.body for node in nodes if isinstance(getattr(node, "body", None), list)]
    pairs = chain.from_iterable(map(pairwise, blocks))
    return [(statement, after.value.value) for statement, after in pairs if _is_text(after)]


def _is_text(statement: ast.stmt) -> TypeGuard[Any]:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _assigns(statement: ast.stmt, name: str) -> bool:
    if isinstance(statement, ast.AnnAssign):
        return ast.unparse(statement.target) == name
    if isinstance(statement, ast.Assign):
        return any(ast.unparse(target) == name for target in statement.targets)
    return False
