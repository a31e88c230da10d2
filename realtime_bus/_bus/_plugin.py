"""Plugins: objects that live as long as a session."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from realtime_bus.errors import UsageError

if TYPE_CHECKING:
    from realtime_bus._session._session import Session

__all__ = ["ENTRY_POINT_GROUP", "Plugin", "check_plugin", "load_plugin"]

ENTRY_POINT_GROUP = "realtime_bus.plugins"


@runtime_checkable
class Plugin(Protocol):
    """What the bus asks of a plugin: one method."""

    def attach(self, session: Session, /) -> None:
        """Take part in a session that is about to begin; called before its first frame.

        Subscribe with `Session.on`, see or change events with `Session.intercept` and
        `Session.intercept_outgoing`, run tasks with `Session.start_soon`, clean up with
        `Session.on_close`. One plugin may be attached to many sessions: keep what belongs to
        one of them in objects made here.
        """
        ...


def check_plugin(plugin: object) -> Plugin:
    """Return the plugin, or say what is missing.

    Raises:
        UsageError: It has no ``attach``, or is a class.
    """
    if isinstance(plugin, type):
        raise UsageError(
            f"{plugin.__name__} is a class; give the bus an instance: {plugin.__name__}(...)"
        )
    if not isinstance(plugin, Plugin):
        raise UsageError(f"{plugin!r} is not a plugin: it has no attach(session) method")
    return plugin


def load_plugin(name: str) -> Any:
    """Return what a distribution has published as a plugin under a name.

    Looks in the entry-point group ``realtime_bus.plugins``; nothing is loaded unasked.

    Raises:
        UsageError: Nothing is published under that name; lists what is.
    """
    published = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in published:
        known = ", ".join(sorted(published)) or "none"
        raise UsageError(f"no plugin {name!r} is installed; installed are: {known}")
    return published[name].load()
