"""Every event of a recording, as columns: small in a page, and quick to go through in it."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final, cast

import msgspec

from realtime_bus.recording import (
    Ended,
    Flushed,
    Header,
    Left,
    Line,
    Named,
    Played,
    Received,
    Sent,
    Told,
)

_NOTED: Final = {Named: "names", Left: "left_out", Ended: "ended"}
_OF_LINES: Final = {"kind", "t_us"}
BROKEN: Final = "invalid frame"
_AUDIO_MIN: Final = 64  # characters of base64 that are worth a note in their place
_TELLS_TEXT: Final = (
    "response.output_audio_transcript.done",
    "response.output_text.done",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.failed",
    "response.function_call_arguments.done",
    "conversation.item.create",
    "conversation.item.done",
    "conversation.item.added",
    "conversation.item.created",
    "input_audio_buffer.committed",
)
"""Which event is shown for an item of the transcript; the first that there is."""


class Columns:
    """Every event of a recording, a list for each thing that is known of it.

    Attributes:
        types: The names of events, each once, and its number.
        kinds: The number of each event's name.
        t_us: When each was; never before the one before it.
        origins: Where each came from, a letter of `static/data.js`.
        texts: Each as JSON in one line; audio in it has become a note.
        items: Which event tells most of an item.
        end_us: When the last of them was.
    """

    def __init__(self) -> None:
        self.types: dict[str, int] = {}
        self.kinds: list[int] = []
        self.t_us: list[int] = []
        self.origins: list[str] = []
        self.texts: list[bytes] = []
        self.items: dict[str, int] = {}
        self.end_us: int = 0
        self._ranks: dict[str, int] = {}
        self._by_type: dict[str, list[int]] = {}

    def note(self, line: Line) -> None:
        """Take note of a line."""
        match line:
            case Header():
                self.end_us = max(self.end_us, line.t_us)
            case Received() | Sent():
                self._frame(line, "i" if isinstance(line, Received) else "o")
            case Told():
                origin = "a" if line.application else "b"
                self._add(line.t_us, line.type, origin, _json({"type": line.type, **line.event}))
            case Played() | Flushed():
                name = "sink.played" if isinstance(line, Played) else "sink.flushed"
                items = [msgspec.to_builtins(item) for item in line.items]
                self._add(line.t_us, name, "s", _json({"type": name, "items": items}))
            case Named() | Left() | Ended():
                fields = msgspec.to_builtins(line)
                text = _json({name: fields[name] for name in fields if name not in _OF_LINES})
                self._add(line.t_us, f"recording.{_NOTED[type(line)]}", "r", text)

    def _frame(self, line: Received | Sent, origin: str) -> None:
        if line.broken is not None:
            self._add(line.t_us, BROKEN, origin, _json({"base64": line.broken}))
            return
        text = bytes(line.frame)
        try:
            head = _decode_head(text)
        except msgspec.MsgspecError:
            head = _Head()
        for sound in (head.audio, head.delta):
            if isinstance(sound, str) and len(sound) >= _AUDIO_MIN and _is_audio(head.type):
                note = f"({len(sound)} characters of base64)"
                text = text.replace(sound.encode(), note.encode())
        number = self._add(line.t_us, _named(head.type), origin, text)
        if head.type not in _TELLS_TEXT:
            return
        inner: object = head.item
        item = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
        item_id: object = head.item_id if isinstance(head.item_id, str) else item.get("id")
        rank = _TELLS_TEXT.index(head.type)
        if isinstance(item_id, str) and rank <= self._ranks.get(item_id, rank):
            self._ranks[item_id] = rank
            self.items[item_id] = number

    def _add(self, t_us: int, name: str, origin: str, text: bytes) -> int:
        number = len(self.kinds)
        self.end_us = max(self.end_us, t_us)
        self.kinds.append(self.types.setdefault(name, len(self.types)))
        self.t_us.append(self.end_us)
        self.origins.append(origin)
        self.texts.append(text.replace(b"\r", b" ").replace(b"\n", b" "))
        self._by_type.setdefault(name, []).append(number)
        return number

    def steps(self) -> list[int]:
        """Return the time from each event to the next; the first one's from the beginning."""
        return [now - before for before, now in zip([0, *self.t_us], self.t_us, strict=False)]

    def find(self, at_us: int | None, *types: str) -> int | None:
        """Return which event of these types was nearest to a moment."""
        if at_us is None:
            return None
        best: int | None = None
        for name in types:
            numbers = self._by_type.get(name, [])
            place = bisect_left(numbers, at_us, key=lambda number: self.t_us[number])
            for number in numbers[max(0, place - 1) : place + 1]:
                if best is None or abs(self.t_us[number] - at_us) < abs(self.t_us[best] - at_us):
                    best = number
        return best


class _Head(msgspec.Struct):
    """What is read of a frame, whatever it is."""

    type: Any = None
    audio: Any = None
    delta: Any = None
    item_id: Any = None
    item: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode
_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _json(value: Any) -> bytes:
    return _encode(value)


def _named(name: object) -> str:
    return name[:200] if isinstance(name, str) and name else BROKEN


def _is_audio(name: object) -> bool:
    return isinstance(name, str) and "transcript" not in name and "text" not in name
