"""The session's settings: what the server has confirmed, and what it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from realtime_bus import events as ev
from realtime_bus.events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU

__all__ = ["SettingsKnown", "known_format", "path"]


def path(thing: object, *names: str) -> Any:
    """Return a nested value; None where anything on the way is missing, not set or raw data."""
    for name in names:
        thing = getattr(thing, name, None)
    return None if thing is UNSET else thing


class SettingsKnown:
    """The last echo, and the updates that were not confirmed yet."""

    SEEN = (ev.SessionCreated, ev.SessionUpdated)

    def __init__(self) -> None:
        self.echo: object = None
        self.pending: list[ev.SessionUpdate] = []

    def see(self, event: ev.ServerEvent) -> None:
        """Take note of an echo; updates are confirmed in order."""
        if isinstance(event, ev.SessionCreated | ev.SessionUpdated):
            self.echo = event.session
            if isinstance(event, ev.SessionUpdated):
                del self.pending[:1]

    def sent(self, event: ev.ClientEvent) -> Callable[[], None] | None:
        """Take note of an update."""
        if not isinstance(event, ev.SessionUpdate):
            return None
        self.pending.append(event)
        return lambda: self._forget(event)

    def _forget(self, event: ev.SessionUpdate) -> None:
        self.pending = [pending for pending in self.pending if pending is not event]

    @property
    def kind(self) -> str | None:
        """Whether it is a conversation or only transcribes."""
        kind = path(self.echo, "type")
        return kind if isinstance(kind, str) else None

    @property
    def input_format(self) -> AudioFormat:
        """How input audio is encoded."""
        return known_format(path(self.echo, "audio", "input", "format"))

    @property
    def output_format(self) -> AudioFormat:
        """How output audio is encoded."""
        return known_format(path(self.echo, "audio", "output", "format"))

    @property
    def awaited_input_format(self) -> AudioFormat | None:
        """An input format that was asked for and is not confirmed, if it is another one."""
        asked = [path(event.session, "audio", "input", "format") for event in self.pending]
        others = [known_format(f) for f in asked if f is not None]
        return next((f for f in others if f != self.input_format), None)


def known_format(found: object) -> AudioFormat:
    """Return the format, PCM16 where it is none that we know."""
    return found if isinstance(found, AudioPCM | AudioPCMU | AudioPCMA) else AudioPCM()
