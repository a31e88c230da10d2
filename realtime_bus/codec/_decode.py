"""Frames into events: one msgspec call, and a careful walk when that fails.

Rules:

1. One msgspec decoder for all types looks up the type by itself, faster than Python could.
2. Base64 audio is not parsed at all: it is cut out of the frame, the rest is decoded, and the
   event remembers where in the frame its audio is.
3. What msgspec refuses is tried by its GA name, if it has a beta name; else it is parsed and
   walked field by field, so that drift costs one field.
4. The first frame of each type is walked whole, to notice fields that nobody knows yet; the first
   of up to 64 KiB, that is.
5. Nothing raises. What is no event becomes an `InvalidFrame`, an unknown one an `UnknownEvent`.
6. Whoever wants events whose fields are all of their types asks for those that drift to be narrowed
   (`_narrow`); those that msgspec has taken are.
7. No frame holds up its reader for long: `_MAX_VALUES` are walked, and of one over 1 MiB no more
   is parsed than the fields of its event, each by itself (`_large`). What is too much for that
   stays raw, or counts as missing, and is told as drift.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal, NamedTuple, Union

import msgspec

from realtime_bus.events import (
    Drift,
    Event,
    InvalidFrame,
    ProtocolName,
    UnknownEvent,
    WireProtocol,
    wire_protocol,
)
from realtime_bus.events._audio import AudioSlot

from ._audio import NestedAudio, OwnAudio, audio_slots, holds_audio
from ._frame import HEAD, MAX_HEAD_BYTES, NotAnObject, parse_object, type_of, wire_name
from ._large import read_large
from ._narrow import narrow
from ._scalars import Problem
from ._walk import walk

Side = Literal["server", "client"]

_LARGE_BYTES = 1024 * 1024  # from here on, nothing is made of what no field wants
_MAX_FIRST_BYTES = 64 * 1024
_MAX_VALUES = 3000  # that are walked: 10 to 50 ms
_CUT_FROM_BYTES = 2048  # from here on, cutting audio out costs less than parsing it
_MAX_KINDS = 1000  # a server that makes up field names must not fill the memory
_TOO_MANY = Problem("", "unknown_field", f"over {_MAX_KINDS} kinds of drift: no more are reported")

_INDEX = re.compile(r"\[\d+\]")

_Finish = Callable[[Any, bytes], Event]
"""What is left to do with an event of some class, given its frame as well."""


# What decoders know of a protocol


class TypeCodec(NamedTuple):
    """One type of event.

    Attributes:
        cls: Its struct.
        slot: Where its audio goes, if it has any of its own.
        marker: What stands before that audio in a frame, such as ``b',"delta":"'``.
        nested: Whether items or parts within it can have audio.
    """

    cls: type[Event]
    slot: AudioSlot | None
    marker: bytes
    nested: bool


class Table(NamedTuple):
    """One direction of a protocol.

    Attributes:
        decode: msgspec's decoder of all its types; it looks the type up by itself.
        types: The types, by wire name.
        renamed: Names of today, by the name that earlier versions had.
    """

    decode: Callable[[bytes], Any]
    types: dict[bytes, TypeCodec]
    renamed: dict[bytes, bytes]


@cache
def table_of(protocol: WireProtocol, side: Side) -> Table:
    """Return the table of a protocol's direction; built once, shared by all decoders."""
    classes: Mapping[str, type[Event]] = protocol.server if side == "server" else protocol.client
    every: Any = Union[tuple(classes.values())]  # noqa: UP007  # its members are not known here
    old_names = protocol.old_names.items()
    return Table(
        decode=msgspec.json.Decoder(every).decode,
        types={name.encode(): _type_codec(cls) for name, cls in classes.items()},
        renamed={old.encode(): new.encode() for old, new in old_names if new in classes},
    )


def _type_codec(cls: type[Event]) -> TypeCodec:
    slot = next(iter(audio_slots(cls)), None)
    marker = b',"%b":"' % slot.name.encode() if slot else b""
    return TypeCodec(cls, slot, marker, holds_audio(cls))


class Decoder:
    """Decodes the frames of one session, and keeps count of what does not fit.

    Args:
        protocol: Which protocol the frames speak, or its name.
        side: Whose events: those a server sends, or those a client sends.
        report: Called with each kind of drift, the first time it is seen. Audio is only
            looked at when it is read, so bad base64 is reported then.
        both: Makes one of an event that does not fit and the same narrowed; `decode` returns that
            in their place.

    Attributes:
        drift_counts: How often each kind was seen, by (event type, path, kind).

    Raises:
        UsageError: There is no protocol of this name.
    """

    def __init__(
        self,
        protocol: WireProtocol | ProtocolName = "realtime",
        *,
        side: Side = "server",
        report: Callable[[Drift], None] | None = None,
        both: Callable[[Event, Event], Any] | None = None,
    ) -> None:
        self._decode, self._types, self._renamed = table_of(wire_protocol(protocol), side)
        self._finish: dict[type, _Finish | None] = {
            codec.cls: self._first for codec in self._types.values()
        }
        self._cut: dict[bytes, Callable[[bytes], Event]] = {}  # by frame, up to its type's end
        self._report = report
        self._both = both
        self.drift_counts: Counter[tuple[str, str, str]] = Counter()

    def decode(self, frame: bytes | str) -> Event:
        """Return the event of a frame; never raises.

        Returns:
            A struct of the protocol, an `UnknownEvent`, or an `InvalidFrame`. It may keep the
            frame, a WebSocket message.
        """
        if type(frame) is not bytes:
            frame = _as_bytes(frame)
        try:
            if len(frame) > _CUT_FROM_BYTES:
                # where there is no end, 0 keeps a frame of 20 MB from being copied and hashed
                end = max(frame.find(b'"', len(HEAD), MAX_HEAD_BYTES), 0)
                cut = self._cut.get(frame[:end])
                if cut is not None:
                    return cut(frame)
            event: Event = self._decode(frame)
            finish = self._finish[type(event)]
            return event if finish is None else finish(event, frame)
        except (ValueError, RecursionError):  # msgspec's, and of bytes that are no UTF-8
            return self._unusual(frame)

    def _first(self, event: Event, frame: bytes) -> Event:
        """Take the long way with the first event of a class, and plan for those that follow."""
        name = event.type.encode()
        finish = self._plan(name, self._types[name])
        if len(frame) > _MAX_FIRST_BYTES:
            return event if finish is None else finish(event, frame)
        self._finish[type(event)] = finish
        return self._walk_frame(frame, max_values=None)

    def _plan(self, name: bytes, codec: TypeCodec) -> _Finish | None:
        bad_audio = partial(self._bad_audio, name.decode())
        if codec.nested:
            return NestedAudio(bad_audio).defer
        if codec.slot is None:
            return None
        on_bad = partial(bad_audio, codec.slot.name)
        own = OwnAudio(self._decode, codec.slot, codec.marker, on_bad)
        self._cut[HEAD + name] = own.decode_cut
        for old in (old for old, new in self._renamed.items() if new == name):
            renamed = own._replace(decode=partial(self._decode_renamed, old))
            self._cut[HEAD + old] = renamed.decode_cut
        return own.defer

    def _decode_renamed(self, old: bytes, frame: bytes) -> Any:
        """Decode a frame whose event has another name by now.

        Safe wherever the name stands: had another text been swapped in place of the type, the
        type would still be the old one, which msgspec refuses.
        """
        return self._decode(frame.replace(b'"%b"' % old, b'"%b"' % self._renamed[old], 1))

    def _unusual(self, frame: bytes) -> Event:
        """Decode what msgspec has refused: by its name of today, or else field by field."""
        name = wire_name(frame)
        if name is None or name not in self._renamed:
            return self._walk_frame(frame)
        try:
            event: Event = self._decode_renamed(name, frame)
            finish = self._finish[type(event)]
            return event if finish is None else finish(event, frame)
        except (ValueError, RecursionError):
            return self._walk_frame(frame)

    # Field by field

    def _walk_frame(self, frame: bytes, max_values: int | None = _MAX_VALUES) -> Event:
        if len(frame) > _LARGE_BYTES:
            return self._large(frame)
        try:
            plain = parse_object(frame)
        except NotAnObject as error:
            return self._invalid(frame, str(error))
        kind = plain.get("type")
        if type(kind) is not str:
            reason = "it has no type" if "type" not in plain else "its type is not a string"
            return self._invalid(frame, reason)
        name = kind.strip().encode()  # one server writes a stray blank into a type
        codec = self._types.get(self._renamed.get(name, name))
        if codec is None:
            self._count(kind, Problem("type", "unknown_variant", "no such event is known"))
            return UnknownEvent(event_type=kind, frame=frame)
        return self._drifted(*walk(plain, codec.cls, max_values=max_values))

    def _large(self, frame: bytes) -> Event:
        """Decode a large frame that msgspec has refused."""
        try:
            kind = type_of(frame)
            codec = self._types.get(self._renamed.get(kind.encode(), kind.encode()))
            if codec is None:
                self._count(kind, Problem("type", "unknown_variant", "no such event is known"))
                return UnknownEvent(event_type=kind, frame=frame)
            return self._drifted(*read_large(frame, codec.cls, _LARGE_BYTES, _MAX_VALUES))
        except (ValueError, RecursionError) as error:
            return self._invalid(frame, f"it is not JSON, or has no type: {error}")

    def _drifted(self, event: Event, problems: list[Problem]) -> Event:
        for problem in problems:
            self._count(event.type, problem)
        if self._both is None or all(problem.kind == "unknown_field" for problem in problems):
            return event
        narrowed: Event = narrow(event)
        return event if narrowed is event else self._both(event, narrowed)

    def _invalid(self, frame: bytes, reason: str) -> InvalidFrame:
        self._count("", Problem("", "wrong_type", reason))
        return InvalidFrame(reason=reason, frame=frame)

    # Drift

    def _bad_audio(self, event_type: str, path: str) -> None:
        self._count(event_type, Problem(path, "wrong_type", "the text is not valid base64"))

    def _count(self, event_type: str, problem: Problem) -> None:
        path = _INDEX.sub("[]", problem.path)  # one kind for all elements of an array
        key: tuple[str, str, str] = (event_type[:128], path[:256], problem.kind)
        if key not in self.drift_counts and len(self.drift_counts) >= _MAX_KINDS:
            key, problem = ("", "", "too many kinds"), _TOO_MANY
        self.drift_counts[key] += 1
        if self.drift_counts[key] == 1 and self._report is not None:
            event_type, path, _ = key
            self._report(
                Drift(event_type=event_type, path=path, kind=problem.kind, message=problem.message)
            )


def _as_bytes(frame: Any) -> bytes:
    if isinstance(frame, str):
        return frame.encode("utf-8", "surrogatepass")
    return bytes(frame)


_decoder = cache(Decoder)


def decode(frame: bytes | str, *, protocol: WireProtocol | ProtocolName = "realtime") -> Event:
    """Decode a frame that a server sent. Use a `Decoder` of your own to count drift."""
    return _decoder(protocol, side="server").decode(frame)


def decode_client(
    frame: bytes | str, *, protocol: WireProtocol | ProtocolName = "realtime"
) -> Event:
    """Decode a frame that a client sent, as a relay does."""
    return _decoder(protocol, side="client").decode(frame)
