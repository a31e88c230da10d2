"""Plugins: objects that live as long as a session."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast, runtime_checkable

from realtime_bus.errors import UsageError
from realtime_bus.routing import declarations

from ._session import Session


@runtime_checkable
class Plugin(Protocol):
    """What the bus asks of a plugin: one method.

    A plugin that has something to open which takes time may have an ``async def prepare(session)``
    besides: it is awaited right before `attach`, and what it raises comes out of `Bus.connect`.

    A class that derives from it may declare handlers and interceptors where they stand, with
    `on`, `once`, `intercept` and `intercept_outgoing` of `realtime_bus`, and needs no `attach`.
    """

    def attach(self, session: Session[Any], /) -> None:
        """Take part in a session that is about to begin; called before its first frame.

        Subscribe with `Session.on`, see or change events with `Session.intercept` and
        `Session.intercept_outgoing`, run tasks with `Session.start_soon`, clean up with
        `Session.on_close`. A plugin of the bus is attached to many sessions: keep what belongs to
        one of them in objects made here.
        """
        _ = session  # mypy takes a method without statements for abstract


def check_plugins(plugins: object) -> list[Plugin]:
    """Return the plugins, or say what is wrong with them.

    Raises:
        UsageError: One is none, or they are not several.
    """
    if not isinstance(plugins, Iterable):
        raise UsageError(f"plugins={plugins!r:.80} is no list; write plugins=[...]")
    return [_check_plugin(plugin) for plugin in cast("Iterable[object]", plugins)]


def _check_plugin(plugin: object) -> Plugin:
    """Return the plugin, or say what is missing.

    Raises:
        UsageError: It has neither ``attach`` nor declared methods, or is a class.
    """
    if isinstance(plugin, type):
        raise UsageError(
            f"{plugin.__name__} is a class; give the bus an instance: {plugin.__name__}(...)"
        )
    if not isinstance(plugin, Plugin):
        declared = any(True for _ in declarations(plugin))
        raise UsageError(
            f"{plugin!r} is not a plugin: "
            + ("derive its class from Plugin" if declared else "it has no attach(session) method")
        )
    return plugin
