"""What may import what, and what is public."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import realtime_bus

CORE = Path(realtime_bus.__file__).parent
PLUGINS = CORE.parent / "plugins" / "realtime_bus_plugins"

_BASE = {"_secrets", "errors", "log", "events", "codec"}

MAY_IMPORT = {
    "_virtual_time": set[str](),
    "errors": set[str](),
    "_secrets": {"errors"},
    "log": {"_secrets"},
    "events": {"errors"},
    "codec": {"errors", "events"},
    "audio": {"errors", "events"},
    "history": {"errors", "events"},
    "routing": _BASE,
    "transport": _BASE,
    "session": {*_BASE, "history", "routing", "transport"},
    "connect": {*_BASE, "session", "transport"},
    "feed": {*_BASE, "routing", "session"},
    "bus": {*_BASE, "connect", "routing", "session", "transport"},
    "recording": {
        *_BASE,
        "_virtual_time",
        "audio",
        "bus",
        "connect",
        "history",
        "session",
        "transport",
    },
    "inspector": {"audio", "errors", "events", "recording"},
    "mypy": {"errors", "routing"},
    "server": {*_BASE, "audio", "recording", "transport"},
    "testing": {
        *_BASE,
        "_virtual_time",
        "audio",
        "bus",
        "history",
        "recording",
        "server",
        "session",
        "transport",
    },
}
"""Which rooms of the core each one may import from, lazily and for types included."""

PUBLIC = {
    "realtime_bus",
    "realtime_bus.events",
    "realtime_bus.audio",
    "realtime_bus.feed",
    "realtime_bus.history",
    "realtime_bus.log",
    "realtime_bus.recording",
}
"""What plugins may import from."""


def modules(root: Path) -> list[Path]:
    """Return the source files below a folder."""
    return sorted(path for path in root.rglob("*.py") if "__pycache__" not in path.parts)


def package_of(path: Path) -> list[str]:
    """Return the package that a file belongs to."""
    root = PLUGINS.parent if path.is_relative_to(PLUGINS) else CORE.parent
    return list(path.relative_to(root).with_suffix("").parts[:-1])


@cache
def imported(path: Path) -> list[tuple[str, str]]:
    """Return all that a file imports, as (module, name): at the top, in functions, for types."""
    return list(_imported(path))


def _imported(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = package_of(path)
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def room_of(module: str, name: str) -> str | None:
    """Return which room of the core an import leads to; None if it leads elsewhere."""
    parts = module.split(".")
    if parts[0] != "realtime_bus":
        return None
    return parts[1] if len(parts) > 1 else name


LAST = {"__init__", "__main__", "cli"}
"""What may import everything: the public names, and the command line, an application."""


def first_part(path: Path) -> str:
    """Return the room of the core that a file is in."""
    return path.relative_to(CORE).with_suffix("").parts[0]


CORE_FILES = [path for path in modules(CORE) if first_part(path) not in LAST]


def test_imports_of_the_core_point_one_way() -> None:
    """Errors ← events ← codec ← routing, transport ← session ← bus, connect ← server, cli."""
    for path in CORE_FILES:
        room = first_part(path)
        rooms = {room_of(*found) for found in imported(path)}
        assert rooms <= {None, room} | MAY_IMPORT[room], path


def file_of(module: str, name: str) -> Path | None:
    """Return the file of ours that an import leads to: a module's own, or its package's."""
    for parts in ([*module.split("."), name], module.split(".")):
        place = CORE.parent.joinpath(*parts)
        for found in (place.with_suffix(".py"), place / "__init__.py"):
            if name and found.is_file() and found.is_relative_to(CORE):
                return found
    return None


def test_no_files_of_the_core_import_each_other_in_a_circle() -> None:
    """Whoever reads a file need not have read those above it; a circle would raise here."""
    graph = {
        path: {found for each in imported(path) if (found := file_of(*each)) not in (None, path)}
        for path in modules(CORE)
    }
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_no_room_of_the_core_is_left_out() -> None:
    """Every package and module of the core has its place among the layers."""
    assert {first_part(path) for path in modules(CORE)} - LAST == set(MAY_IMPORT)


def test_the_core_never_imports_a_plugin() -> None:
    """Plugins are found by the application, not by the core.

    The demo is an application, and a call under test has a sink, and rules to be held to.
    """
    for path in modules(CORE):
        if first_part(path) not in {"cli", "testing"}:
            found = {module.split(".")[0] for module, _ in imported(path)}
            assert "realtime_bus_plugins" not in found, path


def test_plugins_import_public_names_only_and_no_other_plugin() -> None:
    """A plugin needs nothing private of the core, and of its neighbours only private helpers."""
    for path, module, name in ((p, *each) for p in modules(PLUGINS) for each in imported(p)):
        if module == "realtime_bus.testing":
            assert path.name == "_pytest.py", path  # what pytest loads; it is here to be light
        elif module.split(".")[0] == "realtime_bus":
            assert module in PUBLIC, f"{path}: {module}"
            assert name in importlib.import_module(module).__all__, f"{path}: {module}.{name}"
        if module.split(".")[0] == "realtime_bus_plugins":
            target = f"{module}.{name}".split(".")[1]
            own = path.relative_to(PLUGINS).with_suffix("").parts[0]
            assert target == own or target.startswith("_"), f"{path}: {module}.{name}"


PUBLIC_MODULES = [
    "realtime_bus",
    "realtime_bus.audio",
    "realtime_bus.codec",
    "realtime_bus.events",
    "realtime_bus.events.translation",
    "realtime_bus.testing",
    "realtime_bus.transport",
]


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_all_lists_what_is_there(name: str) -> None:
    """``__all__`` has every public name that a package gathers, once, and nothing else."""
    module = importlib.import_module(name)
    listed = list(module.__all__)
    assert len(listed) == len(set(listed))
    assert all(hasattr(module, each) for each in listed)
    if Path(str(module.__file__)).name != "__init__.py":
        return
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    names = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    assert {each for each in names if not each.startswith("_")} <= set(listed) | {"TRANSLATION"}


FOR_APPLICATIONS = {
    *PUBLIC,
    "realtime_bus.cli.bench",
    "realtime_bus.codec",
    "realtime_bus.inspector",
    "realtime_bus.server",
    "realtime_bus.server.faults",
    "realtime_bus.testing",
    "realtime_bus.transport",
}
"""What applications may import from, beside the plugins."""


def is_public(module: str, name: str) -> bool:
    """Tell whether an import takes a public module, or a name that one lists in ``__all__``."""
    room = module.partition(".")[0]
    if room == "benchmarks":
        return not any(part.startswith("_") for part in f"{module}.{name}".split("."))
    if f"{module}.{name}" in FOR_APPLICATIONS:
        return True
    is_open = module in FOR_APPLICATIONS if room == "realtime_bus" else "._" not in module
    return is_open and (not name or name in importlib.import_module(module).__all__)


NEEDS_PRIVATE = {
    ("benchmarks/tricks.py", "realtime_bus.transport._handshake"),
    ("benchmarks/fuzz_websocket.py", "realtime_bus.transport._handshake"),
}
"""A connection without a socket is not public: a trick is left out there, and it is fuzzed."""

APPLICATIONS = [*modules(CORE / "cli"), *modules(CORE.parent / "benchmarks")]


def test_the_command_line_and_the_benchmarks_are_applications() -> None:
    """They use public names of the library and of the plugins; benchmarks, the bench's too.

    Inside its own package a module may use what is private to that; benchmarks may not even that.
    """
    for path in APPLICATIONS:
        file = path.relative_to(CORE.parent).as_posix()
        own = "realtime_bus.cli" if path.is_relative_to(CORE) else None
        for module, name in imported(path):
            ours = module.split(".")[0] in {"realtime_bus", "realtime_bus_plugins", "benchmarks"}
            inside = own is not None and f"{module}.".startswith(f"{own}.")
            if ours and not inside and (file, module) not in NEEDS_PRIVATE:
                assert is_public(module, name), f"{file}: {module}.{name}"
