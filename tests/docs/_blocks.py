"""The examples of README.md and docs/: found, compiled, run.

A ``python`` block has a mark on the line before it:

``<!-- run -->``
    is executed, on asyncio. Names that the pages use without saying so are there: see `names`.
    With ``anyio.run`` or ``run_virtual`` in it, it is a script of its own and gets none of them. A
    ``text`` block that follows is what it prints.
``<!-- compile -->``
    is compiled; its imports, event classes and wire names must exist. For what needs a sound
    device, a key or a web framework.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import types
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import structlog

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.server import EnergyDetector, RealtimeServer, ServerOptions, Text

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)[ ]*\n(.*?)^```[ ]*$", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"<!-- (run|compile) -->\n\Z")
_PRINTED = re.compile(r"\A\n\s*```text\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SELECTING = {"on", "once", "wait_for", "stream", "intercept"}


class Block(NamedTuple):
    """One example.

    Attributes:
        page: The file it is in.
        line: Where it begins.
        mark: ``run``, ``compile``, or None if there is none.
        code: The text.
        prints: What it is said to print, or None.
    """

    page: Path
    line: int
    mark: str | None
    code: str
    prints: str | None

    @property
    def where(self) -> str:
        """What to call it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> list[Block]:
    """Return all python blocks, in order."""
    return [block for page in PAGES for block in _blocks_of(page)]


def _blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [_block(page, text, match) for match in _FENCE.finditer(text) if match[1] == "python"]


def _block(page: Path, text: str, match: re.Match[str]) -> Block:
    mark = _MARK.search(text, 0, match.start())
    printed = _PRINTED.match(text[match.end() :])
    return Block(
        page=page,
        line=text.count("\n", 0, match.start()) + 1,
        mark=mark[1] if mark else None,
        code=match[2],
        prints=printed[1] if printed else None,
    )


# Compiling


def compiled(block: Block) -> types.CodeType:
    """Compile a block at its place in the page; it may await at top level."""
    padded = "\n" * block.line + block.code
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: types.CodeType = compile(padded, str(block.page), "exec", flags, dont_inherit=True)
    return code


def resolve_names(block: Block) -> None:
    """Import what a block imports; look up its event classes and wire names."""
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            _import_from(node)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ev":
            getattr(ev, node.attr)
        elif isinstance(node, ast.Call) and block.mark == "compile":
            _select(node)


def _import_from(node: ast.ImportFrom) -> None:
    module = importlib.import_module(node.module or "")
    for alias in node.names:
        if not hasattr(module, alias.name):
            importlib.import_module(f"{node.module}.{alias.name}")


def _select(node: ast.Call) -> None:
    if isinstance(node.func, ast.Attribute) and node.func.attr in _SELECTING:
        names = [a.value for a in node.args if isinstance(a, ast.Constant)]
        wired = [name for name in names if isinstance(name, str)]
        if wired:
            Bus().on(*wired)  # raises for a name that does not exist


# Running


class Answers:
    """The server's end: two words for every question."""

    async def respond(self, request: Any) -> AsyncGenerator[Text, None]:
        """Answer."""
        for word in ("Nine ", "minutes."):
            yield Text(word)


def run(block: Block) -> None:
    """Execute a block."""
    if "anyio.run(" in block.code or "run_virtual(" in block.code:
        exec(compiled(block), {"__name__": "__main__"})  # noqa: S102  # our own pages
        return
    anyio.run(_run_inside, block, backend="asyncio")


async def _run_inside(block: Block) -> None:
    with anyio.fail_after(30):
        async with names() as scope:
            result = eval(compiled(block), scope)  # noqa: S307  # our own pages
            if inspect.isawaitable(result):
                await result
            structlog.reset_defaults()  # what is written behind it is not the example's


@asynccontextmanager
async def names() -> AsyncGenerator[dict[str, Any], None]:
    """Yield what every example may use: docs/index.md lists it."""
    server = RealtimeServer(
        Answers(), options=ServerOptions(pace=float("inf")), detector_factory=EnergyDetector
    )
    bus = Bus(raise_handler_errors=True)
    async with (
        server.serve() as bound,
        server.connect_memory() as transport,
        bus.session(transport) as session,
    ):
        yield {
            "__name__": "example",
            "anyio": anyio,
            "Bus": Bus,
            "Session": Session,
            "ev": ev,
            "bus": bus,
            "session": session,
            "url": bound.url_for("any"),
        }
