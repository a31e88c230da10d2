"""Frames into events: one table look-up and one msgspec call, and a careful walk when that fails.

Rules:

1. The wire name is read off the frame's first bytes and picks the type's own decoder.
2. Base64 audio is not parsed at all: it is cut out of the frame, the rest is decoded, and the
   event remembers where in the frame its audio is.
3. What msgspec refuses is parsed and walked field by field, so that drift costs one field.
4. The first frame of each type is walked whole, to notice fields that nobody knows yet.
5. Nothing raises. What is no event becomes an `InvalidFrame`, an unknown one an `UnknownEvent`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from ..events import Drift, Event, InvalidFrame, UnknownEvent
from ..events._base import AudioSlot, LazyBase64
from ..events._vocabulary import BETA_NAMES, REALTIME, Vocabulary
from ._json import NotAnObject, parse_object
from ._walk import Problem, walk

__all__ = ["Decoder", "TypeCodec", "cut_audio", "type_codecs", "wire_name"]

_MAX_KINDS = 1000  # a server that makes up field names must not fill the memory

_NAME_FIRST = re.compile(rb'\s*\{\s*"type"\s*:\s*"([^"\\]{0,128})"')


class _Head(msgspec.Struct):
    type: str


_HEAD = msgspec.json.Decoder(_Head)


def wire_name(frame: bytes) -> bytes | None:
    """Read an event's type off its frame; None if there is none that can be read simply."""
    if frame.startswith(b'{"type":"'):
        return frame[9 : frame.find(b'"', 9, 140)]
    match = _NAME_FIRST.match(frame)
    if match is not None:
        return match[1]
    try:
        return _HEAD.decode(frame).type.encode()
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


class TypeCodec(NamedTuple):
    """How frames of one type are decoded.

    Attributes:
        cls: The event's struct.
        decode: msgspec's decoder for it.
        slot: Where its audio goes, if it has any.
        marker: What stands before the audio in a frame, such as ``b'"delta":"'``.
    """

    cls: type[Event]
    decode: Callable[[bytes], Any]
    slot: AudioSlot | None
    marker: bytes


def type_codecs(classes: dict[str, type[Any]]) -> dict[bytes, TypeCodec]:
    """Build the table of decoders for one direction of a vocabulary."""
    return {name.encode(): _type_codec(cls) for name, cls in classes.items()}


def _type_codec(cls: type[Event]) -> TypeCodec:
    slots = [slot for slot in vars(cls).values() if isinstance(slot, AudioSlot)]
    slot = slots[0] if slots else None
    marker = b'"%b":"' % slot.name.encode() if slot else b""
    return TypeCodec(cls, msgspec.json.Decoder(cls).decode, slot, marker)


def cut_audio(frame: bytes, marker: bytes) -> tuple[bytes, int, int] | None:
    """Cut the audio out of a frame: return the rest, and where the base64 starts and ends.

    Safe because a JSON string cannot hold the marker: its quotes would be escaped. It can
    only be a key, and the key of the event itself as long as no other object was opened
    before it. Base64 holds no quote, so the next one ends it (and if it was an escaped one,
    the rest is no JSON, and the frame is walked instead).
    """
    start = frame.find(marker) + len(marker)
    if start < len(marker) or frame.count(b"{", 0, start) != 1:
        return None
    end = frame.find(b'"', start)
    if end < 0:
        return None
    return frame[:start] + frame[end:], start, end


_TABLES: dict[tuple[str, str], dict[bytes, TypeCodec]] = {}


def _table(vocabulary: Vocabulary, side: Literal["server", "client"]) -> dict[bytes, TypeCodec]:
    """Return the table of a vocabulary's direction; built once, shared by all decoders."""
    key = (vocabulary.name, side)
    if key not in _TABLES:
        _TABLES[key] = type_codecs(dict(getattr(vocabulary, side)))
    return _TABLES[key]


class Decoder:
    """Decodes the frames of one session, and keeps count of what does not fit.

    Args:
        vocabulary: Which protocol.
        side: Whose events: those a server sends, or those a client sends.
        report: Called with each kind of drift, the first time it is seen.

    Attributes:
        drift_counts: How often each kind was seen, by (event type, path, kind).
    """

    def __init__(
        self,
        vocabulary: Vocabulary = REALTIME,
        *,
        side: Literal["server", "client"] = "server",
        report: Callable[[Drift], None] | None = None,
    ) -> None:
        self._known = _table(vocabulary, side)
        self._seen: dict[bytes | None, TypeCodec] = {}
        self._report = report
        self.drift_counts: Counter[tuple[str, str, str]] = Counter()

    def decode(self, frame: bytes | str) -> Event:
        """Return the frame's event; never raises.

        Args:
            frame: One WebSocket message. The event may keep it, so bytes must not change.

        Returns:
            A struct of the vocabulary, an `UnknownEvent`, or an `InvalidFrame`.
        """
        if type(frame) is not bytes:
            frame = _as_bytes(frame)
        codec = self._seen.get(wire_name(frame))
        if codec is None:
            return self._first_or_unusual(frame)
        try:
            return self._decode_known(frame, codec)
        except (msgspec.MsgspecError, RecursionError):
            return self._walk_frame(frame)

    def _decode_known(self, frame: bytes, codec: TypeCodec) -> Event:
        if codec.slot is not None:
            cut = cut_audio(frame, codec.marker)
            if cut is not None:
                rest, start, end = cut
                event: Event = codec.decode(rest)
                codec.slot.set(event, LazyBase64(frame, start, end, self._bad_audio))
                return event
        return codec.decode(frame)  # type: ignore[no-any-return]  # msgspec's decoder of codec.cls

    def _bad_audio(self, event: Event, field: str) -> None:
        self._count(event.type, Problem(field, "wrong_type", "the text is not valid base64"))

    def _first_or_unusual(self, frame: bytes) -> Event:
        """Take the long way: for the first frame of a type, and for whatever is no event."""
        event = self._walk_frame(frame)
        name = wire_name(frame)
        if name in self._known:
            self._seen[name] = self._known[name]
        return event

    def _walk_frame(self, frame: bytes) -> Event:
        try:
            plain = parse_object(frame)
        except NotAnObject as error:
            return self._invalid(frame, str(error))
        kind = plain.get("type")
        if type(kind) is not str:
            reason = "it has no type" if "type" not in plain else "its type is not a string"
            return self._invalid(frame, reason)
        return self._walk_event(frame, plain, kind)

    def _walk_event(self, frame: bytes, plain: dict[str, Any], kind: str) -> Event:
        name = kind.strip()  # one server writes a stray blank into a type
        codec = self._known.get(BETA_NAMES.get(name, name).encode("utf-8", "replace"))
        if codec is None:
            self._count(kind, Problem("type", "unknown_variant", "no such event is known"))
            return UnknownEvent(event_type=kind, frame=frame)
        event, problems = walk(plain, codec.cls)
        for problem in problems:
            self._count(kind, problem)
        return event

    def _invalid(self, frame: bytes, reason: str) -> InvalidFrame:
        self._count("", Problem("", "wrong_type", reason))
        return InvalidFrame(reason=reason, frame=frame)

    def _count(self, event_type: str, problem: Problem) -> None:
        path = re.sub(r"\[\d+\]", "[]", problem.path)
        drift = Drift(
            event_type=event_type[:128],
            path=path[:256],
            kind=problem.kind,
            message=problem.message,
        )
        key: tuple[str, str, str] = (drift.event_type, drift.path, drift.kind)
        if key not in self.drift_counts and len(self.drift_counts) >= _MAX_KINDS:
            key = ("", "", "too many kinds")
        self.drift_counts[key] += 1
        if self.drift_counts[key] == 1 and self._report is not None:
            self._report(drift)


def _as_bytes(frame: Any) -> bytes:
    if isinstance(frame, str):
        return frame.encode("utf-8", "surrogatepass")
    return bytes(frame)
