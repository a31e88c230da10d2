"""The frames of a recording, read: their events, and how their audio is encoded.

Rules:

1. A frame of a type that only the translation protocol has, is one of that.
2. A response's audio is in the format that the server announced for it, else in the session's.
3. Fields that do not fit are taken for left out: nobody here looks at raw data.
4. Items bear the names that handlers know, whatever a later connection's server calls them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, cast

from msgspec import UNSET

from realtime_bus import events as ev
from realtime_bus.codec import Decoder
from realtime_bus.events import translation as tr
from realtime_bus.recording._format import Received, Sent

from ._hearing import PartKey

Side: TypeAlias = Literal["server", "client"]
_STRING: Final = re.compile(rb'"([^"\\]{1,200})"')


class Frames:
    """Reads the frames of a recording's lines, of whichever protocol."""

    def __init__(self) -> None:
        def decoder(protocol: ev.ProtocolName, side: Side) -> Callable[[bytes], ev.Event]:
            return Decoder(protocol, side=side, both=lambda _event, narrowed: narrowed).decode

        self._decode = {
            Received: (decoder("realtime", "server"), decoder("translation", "server")),
            Sent: (decoder("realtime", "client"), decoder("translation", "client")),
        }
        self._names: dict[bytes, bytes] = {}

    def named(self, names: Mapping[str, str]) -> None:
        """Take what handlers call items from here on, by what the server does."""
        self._names = {there.encode(): here.encode() for there, here in names.items()}

    def event(self, line: Received | Sent) -> Any:
        """Return the event of a line's frame."""
        realtime, translation = self._decode[type(line)]
        frame = bytes(line.frame)
        if self._names and not line.aside:
            frame = with_names(frame, self._names)
        event = realtime(frame)
        if type(event) is ev.UnknownEvent and event.event_type.startswith("session."):
            return translation(frame)
        return event


def with_names(frame: bytes, names: Mapping[bytes, bytes]) -> bytes:
    """Return a frame with other names in the place of some."""
    if not names:
        return frame

    def other(match: re.Match[bytes]) -> bytes:
        found = names.get(match[1])
        return match[0] if found is None else b'"' + found + b'"'

    return _STRING.sub(other, frame)


class Formats:
    """Which audio formats are in force."""

    def __init__(self) -> None:
        self.input: ev.AudioFormat = ev.AudioPCM()
        self._output: ev.AudioFormat = ev.AudioPCM()
        self._by_response: dict[str, ev.AudioFormat] = {}

    def configured(self, session: object) -> None:
        """Note what a session object says."""
        self.input = _usable(find(session, "audio", "input", "format")) or ev.AudioPCM()
        self._output = _usable(find(session, "audio", "output", "format")) or ev.AudioPCM()

    def created(self, response: object) -> None:
        """Note what a new response says."""
        own = _usable(find(response, "audio", "output", "format"))
        self._by_response.setdefault(id_of(response), own or self._output)

    def see(self, event: Any) -> None:
        """Note what an event says."""
        if isinstance(event, ev.SessionCreated | ev.SessionUpdated):
            self.configured(event.session)
        elif isinstance(event, ev.ResponseCreated):
            self.created(event.response)

    def of(self, event: Any) -> ev.AudioFormat:
        """Return how a delta's audio is encoded."""
        if isinstance(event, tr.SessionOutputAudioDelta):
            return _usable(ev.AudioPCM(rate=event.sample_rate)) or ev.AudioPCM()
        return self._by_response.get(str(event.response_id), self._output)


def part_of(event: Any) -> PartKey:
    """Return which part a delta belongs to; a translation has but one."""
    item_id, index = getattr(event, "item_id", ""), getattr(event, "content_index", 0)
    return PartKey(
        item_id if isinstance(item_id, str) else "", index if isinstance(index, int) else 0
    )


def _usable(found: object) -> ev.AudioFormat | None:
    if isinstance(found, ev.AudioPCM) and not 1000 <= found.rate <= 384_000:
        return None
    return found if isinstance(found, ev.AudioPCM | ev.AudioPCMU | ev.AudioPCMA) else None


def rate_hz(audio_format: ev.AudioFormat) -> int:
    """Return how many samples a second has."""
    return audio_format.rate if isinstance(audio_format, ev.AudioPCM) else 8000


def find(thing: object, *names: str) -> Any:
    """Return a nested field; None where anything on the way is missing or raw data."""
    for name in names:
        thing = getattr(thing, name, None)
    return None if thing is UNSET else thing


def id_of(thing: object) -> str:
    """Return an object's id; empty where it has none, or was read as raw data."""
    found = getattr(thing, "id", None)
    return found if isinstance(found, str) else ""


def told_list(told: dict[str, Any], name: str) -> list[object]:
    """Return a list of what was told."""
    found = told.get(name)
    return cast("list[object]", found) if isinstance(found, list) else []
