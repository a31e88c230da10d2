"""The responses: which are active, and which were asked for.

A ``response.created`` without a conversation is out of band if such a response was asked for,
or if it carries somebody else's metadata; else the server is one that names no conversation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from realtime_bus import events as ev

from ._settings import path

__all__ = ["RepliesKnown", "is_out_of_band"]


def is_out_of_band(event: ev.ResponseCreate) -> bool:
    """Tell whether a request is for a response outside the default conversation."""
    return event.response is not None and event.response.conversation == "none"


class RepliesKnown:
    """Responses by id, and requests on their way.

    Attributes:
        active: Ids of the default conversation's active responses; one, if all is well.
        free: Ids of active responses out of band.
        over: Ids of responses that have ended.
        asked: Requests for the default conversation that were not answered yet.
        spoken: Whether there was any output audio.
    """

    SEEN = (
        ev.ResponseCreated,
        ev.ResponseDone,
        ev.ResponseOutputItemAdded,
        ev.ResponseOutputAudioDelta,
    )

    def __init__(self) -> None:
        self.active: dict[str, None] = {}
        self.free: dict[str, None] = {}
        self.over: dict[str, None] = {}
        self.asked: list[ev.ResponseCreate] = []
        self.spoken = False
        self._free_asked: list[ev.ResponseCreate] = []
        self._formats: dict[str, object] = {}
        self._names = False  # the server names the conversation of responses that have one

    def see(self, event: ev.ServerEvent) -> None:
        """Take note of a response's beginning, signs of life and end."""
        if isinstance(event, ev.ResponseCreated):
            self._created(event.response)
        elif isinstance(event, ev.ResponseDone):
            self._done(event.response)
        elif isinstance(event, ev.ResponseOutputItemAdded):
            self._alive(event.response_id)
        elif isinstance(event, ev.ResponseOutputAudioDelta):
            self.spoken = True
        elif isinstance(event, ev.Error):
            self._named(str(getattr(event.error, "message", "")))

    def _created(self, response: Any) -> None:
        response_id = str(path(response, "id"))
        named = path(response, "conversation_id") is not None
        self._formats[response_id] = path(response, "audio", "output", "format")
        others = bool(path(response, "metadata")) and not self.asked
        self._names = self._names or named
        if not named and (self._free_asked or others or self._names):
            self.free[response_id] = None
            del self._free_asked[:1]
        else:
            self.active[response_id] = None
            del self.asked[:1]

    def _done(self, response: Any) -> None:
        response_id = str(path(response, "id"))
        if response_id not in self.active and response_id not in self.free:
            del self.asked[:1]  # killed before it was seen to start: it may have been ours
        self.active.pop(response_id, None)
        self.free.pop(response_id, None)
        self.over[response_id] = None

    def _alive(self, response_id: str) -> None:
        """Take a response that nobody has seen start for the default conversation's."""
        if response_id not in self.free and response_id not in self.over:
            self.active[response_id] = None

    def _named(self, message: str) -> None:
        """Learn of the response that a refusal names as active."""
        for response_id in re.findall(r"resp_\w+", message):
            self._alive(response_id)

    def sent(self, event: ev.ClientEvent) -> Callable[[], None] | None:
        """Take note of a request."""
        if not isinstance(event, ev.ResponseCreate):
            return None
        asked = self._free_asked if is_out_of_band(event) else self.asked
        asked.append(event)
        return lambda: asked.remove(event) if event in asked else None

    def maybe_refused(self) -> list[ev.ResponseCreate]:
        """Take note of an error that names no event; return what it may be about."""
        blamed = [*self.asked[:1], *self._free_asked[:1]]
        del self.asked[:1]
        del self._free_asked[:1]
        return blamed

    def format_of(self, response_id: str) -> object:
        """Return the audio format that a response has of its own, or None."""
        return self._formats.get(response_id)
