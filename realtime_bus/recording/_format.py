"""The lines of a recording, as data.

Rules:

1. A file is JSON lines in UTF-8; each line is an object with ``kind`` and ``t_us``: microseconds
   since the recording began, on a monotonic clock. Lines stand in the order in which things
   happened. The first line of every file is the header.
2. A frame stands in its line as it came, as JSON within JSON. Only line breaks between its fields
   have become spaces. A frame that is no JSON stands as base64 in ``broken`` instead.
3. Audio that was left out leaves ``""`` in its frame, and its length in ``audio_bytes``.
4. A reader ignores fields and kinds that it does not know, and a last line that is cut off.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from realtime_bus.audio import PlayedItem

FORMAT_VERSION: Final = 1


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    t_us: int


class Header(_Line, tag="recording", frozen=True, kw_only=True):
    """What the file is; again at the beginning of each further file of the same session.

    Attributes:
        t_us: Microseconds since the recording began.
        version: Of the format.
        recording_id: Names the recording; the same in each of its files.
        part: Which file it is, from 0.
        started_at: When the recording began, ISO 8601 in UTC.
        library: What wrote it.
        url: Where the session is connected to, without its secrets.
        audio: Whether audio was kept.
        texts: Whether texts were kept.
        labels: What the application notes of the call.
    """

    version: int = FORMAT_VERSION
    recording_id: str = ""
    part: int = 0
    started_at: str = ""
    library: str = ""
    url: str = ""
    audio: bool = True
    texts: bool = True
    labels: dict[str, str] = {}


class _Frame(_Line, frozen=True, kw_only=True):
    frame: msgspec.Raw = msgspec.Raw()
    broken: str | None = None
    audio_bytes: int | None = None


class Received(_Frame, tag="in", frozen=True, kw_only=True):
    """A frame from the server.

    Attributes:
        t_us: Microseconds since the recording began.
        frame: The frame, JSON as it came; empty if it is no JSON.
        broken: A frame that is no JSON, in base64.
        audio_bytes: Length of the audio that was left out of it.
    """


class Sent(_Frame, tag="out", frozen=True, kw_only=True):
    """A frame to the server; the same fields as `Received`."""


class Told(_Line, tag="bus", frozen=True, kw_only=True):
    """An event of the bus, of a plugin or of the application.

    Attributes:
        t_us: Microseconds since the recording began.
        type: The event's name, such as ``bus.handler_failed``.
        event: Its fields, as far as they can be written down.
        application: Whether it is the application's own.
    """

    type: str
    event: dict[str, Any] = {}
    application: bool = False


class Played(_Line, tag="play", frozen=True, kw_only=True):
    """What the sink says it has played by now.

    Attributes:
        t_us: Microseconds since the recording began.
        items: What is playing or queued, in order; empty once all was heard.
    """

    items: list[PlayedItem] = []


class Flushed(_Line, tag="flush", frozen=True, kw_only=True):
    """The sink fell silent before its end.

    Attributes:
        t_us: Microseconds since the recording began.
        items: What was playing or queued, and how much of it was heard.
    """

    items: list[PlayedItem] = []


class Left(_Line, tag="left_out", frozen=True, kw_only=True):
    """Lines that are missing here: they came faster than they could be written.

    Attributes:
        t_us: Microseconds since the recording began.
        lines: How many.
        bytes: Their length.
    """

    lines: int
    bytes: int


class Ended(_Line, tag="end", frozen=True, kw_only=True):
    """The session's end; a recording without one was cut off.

    Attributes:
        t_us: Microseconds since the recording began.
        code: Close code.
        reason: Close reason.
        clean: Whether it ended in good order.
    """

    code: int = 1005
    reason: str = ""
    clean: bool = False


Line: TypeAlias = Header | Received | Sent | Told | Played | Flushed | Left | Ended
