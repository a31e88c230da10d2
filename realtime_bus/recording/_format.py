"""The lines of a recording, as data.

Rules:

1. A file is JSON lines in UTF-8; each line is an object with ``kind`` and ``t_us``: microseconds
   since the recording began, on a monotonic clock. Lines stand in the order in which things
   happened. The first line of every file is the header.
2. A frame stands in its line as it came, as JSON within JSON. Only line breaks between its fields
   have become spaces, and space around it is gone. A frame that is no JSON stands as base64 in
   ``broken`` instead.
3. Nobody looks into each frame while it is written. So a line may be no JSON because its frame is
   none: then the frame is what stands between ``"frame":`` and the line's last brace, and
   `Recording` gives it as ``broken``.
4. Audio that was left out leaves ``""`` in its frame, and its length in ``audio_bytes``. Text that
   was left out leaves an ``x`` for each of its characters, and a key leaves ``***``.
5. A reader ignores fields and kinds that it does not know, and a last line that is cut off.
   What else is damaged or missing it tells as `Left`.
6. Further files of a recording, ``NAME.1.jsonl`` and so on, go on where the one before ended. A
   file that ends in ``.zst`` is compressed with zstd; it may end within a zstd frame.
"""

from __future__ import annotations

from binascii import a2b_base64
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from realtime_bus.audio import PlayedItem

FORMAT_VERSION: Final = 1


_LONGEST_US: Final = 10**14  # three years: beyond that a time is damaged


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    t_us: Annotated[int, msgspec.Meta(ge=0, lt=_LONGEST_US)]


class Header(_Line, tag="recording", frozen=True, kw_only=True):
    """What the file is; again at the beginning of each further file of the same session.

    Attributes:
        t_us: Microseconds since the recording began.
        version: Of the format.
        recording_id: Names the recording; the same in each of its files.
        part: Which file it is, from 0.
        started_at: When the recording began, ISO 8601 in UTC.
        library: What wrote it.
        url: Where the session was connected to first, without the query.
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
    aside: bool = False

    @property
    def data(self) -> bytes:
        """The frame's bytes, whether it is JSON or not."""
        return bytes(self.frame) if self.broken is None else a2b_base64(self.broken)


class Received(_Frame, tag="in", frozen=True, kw_only=True):
    """A frame from the server.

    Attributes:
        t_us: Microseconds since the recording began.
        frame: The frame, JSON as it came; empty if it is no JSON.
        broken: A frame that is no JSON, in base64.
        audio_bytes: Length of the audio that was left out of it.
        aside: Whether no handler could see it: it came over a connection that was only about to
            become the session's, or was so no more.
    """


class Sent(_Frame, tag="out", frozen=True, kw_only=True):
    """A frame to the server; the same fields as `Received`."""


class Named(_Line, tag="names", frozen=True, kw_only=True):
    """From here on the server calls items otherwise than handlers do, after a reconnect.

    Attributes:
        t_us: Microseconds since the recording began.
        names: What handlers call them, by what the server does: all of them, each time.
    """

    names: dict[str, str] = {}


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
        settled: Whether this is what was learned later of the last one, from a sink that plays
            far away.
        noticed: Whether only its consequence was seen: it happened between the last line about
            playing and this one, and ``items`` are that one's.
    """

    items: list[PlayedItem] = []
    settled: bool = False
    noticed: bool = False


class Left(_Line, tag="left_out", frozen=True, kw_only=True):
    """Lines that are missing here. Written, or made by a reader who finds damage.

    Attributes:
        t_us: Microseconds since the recording began.
        lines: How many, as far as that is known.
        bytes: Their length, as far as that is known.
        why: In words; empty if they came faster than they could be written.
    """

    lines: int = 0
    bytes: int = 0
    why: str = ""


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


Line: TypeAlias = Header | Received | Sent | Named | Told | Played | Flushed | Left | Ended


def part_of(path: Path, part: int) -> Path:
    """Return where a part of a recording stands, given its first file."""
    if part == 0:
        return path
    stem, dot, ending = path.name.partition(".jsonl")
    return path.with_name(f"{stem}.{part}{dot}{ending}")
