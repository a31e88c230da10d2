"""Frames into events: one msgspec call, and a careful walk when that fails.

Rules:

1. One msgspec decoder for all types looks up the type by itself, faster than Python could.
2. Base64 audio is not parsed at all: it is cut out of the frame, the rest is decoded, and the
   event remembers where in the frame its audio is.
3. What msgspec refuses is tried by its GA name, if it has a beta name; else it is parsed and
   walked field by field, so that drift costs one field.
4. The first frame of each type is walked whole, to notice fields that nobody knows yet.
5. Nothing raises. What is no event becomes an `InvalidFrame`, an unknown one an `UnknownEvent`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from realtime_bus.events import Drift, Event, InvalidFrame, UnknownEvent
from realtime_bus.events._registry import ProtocolName, WireProtocol, wire_protocol

from ._audio import adopt, adopter_nested, decode_cut
from ._json import NotAnObject, parse_object
from ._names import HEAD, MAX_HEAD_BYTES, wire_name
from ._table import Side, TypeCodec, table_of
from ._walk import Problem, walk

__all__ = ["Decoder", "decode", "decode_client"]

_MAX_KINDS = 1000  # a server that makes up field names must not fill the memory
_TOO_MANY = Problem("", "unknown_field", f"over {_MAX_KINDS} kinds of drift: no more are told")

_Finish = Callable[[Any, bytes], Any]
"""What is left to do with an event of some class, given its frame as well."""


class Decoder:
    """Decodes the frames of one session, and keeps count of what does not fit.

    Args:
        protocol: Which protocol the frames speak, or its name.
        side: Whose events: those a server sends, or those a client sends.
        report: Called with each kind of drift, the first time it is seen. Audio is only
            looked at when it is read, so bad base64 is reported then.

    Attributes:
        decode: Return the event of a frame: a struct of the protocol, an `UnknownEvent`, or an
            `InvalidFrame`; never raises. The event may keep the frame, a WebSocket message.
        drift_counts: How often each kind was seen, by (event type, path, kind).

    Raises:
        UsageError: There is no protocol of this name.
    """

    decode: Callable[[bytes | str], Event]

    def __init__(
        self,
        protocol: WireProtocol | ProtocolName = "realtime",
        *,
        side: Side = "server",
        report: Callable[[Drift], None] | None = None,
    ) -> None:
        self._decode, self._types, self._renamed = table_of(wire_protocol(protocol), side)
        self._finish: dict[type, _Finish | None] = {
            codec.cls: self._first for codec in self._types.values()
        }
        self._cut: dict[bytes, Callable[[bytes], Any]] = {}  # by frame, up to its type's end
        self._report = report
        self.drift_counts: Counter[tuple[str, str, str]] = Counter()
        self.decode = self._compile()

    def _compile(self) -> Callable[[bytes | str], Event]:
        """Make `decode`: a closure, for the look-ups of a method are a tenth of a small frame."""
        decode, finishes, cuts, head_bytes = self._decode, self._finish, self._cut, len(HEAD)

        def decode_frame(frame: Any) -> Any:
            try:
                if len(frame) > 2048:  # from here on, cutting audio out costs less than parsing it
                    # where there is no end, 0 keeps a frame of 20 MB from being copied and hashed
                    end = max(frame.find(b'"', head_bytes, MAX_HEAD_BYTES), 0)
                    cut = cuts.get(frame[:end])
                    if cut is not None:
                        return cut(frame)
                event = decode(frame)
                finish = finishes[type(event)]
                return event if finish is None else finish(event, frame)
            except (ValueError, RecursionError):  # msgspec's, and of bytes that are no UTF-8
                return self._unusual(_as_bytes(frame))
            except (TypeError, AttributeError):  # text; asking beforehand is 3 % of a small frame
                if type(frame) is bytes:
                    raise
                return decode_frame(_as_bytes(frame))

        return decode_frame

    def _first(self, event: Event, frame: bytes) -> Event:
        """Take the long way with the first event of a class, and plan for those that follow."""
        name = event.type.encode()
        self._finish[type(event)] = self._plan(name, self._types[name])
        return self._walk_frame(_as_bytes(frame))

    def _plan(self, name: bytes, codec: TypeCodec) -> _Finish | None:
        if codec.nested:
            return adopter_nested(partial(partial, self._bad_audio, name.decode()))
        if codec.slot is None:
            return None
        on_bad = partial(self._bad_audio, name.decode(), codec.slot.name)
        for old in (old for old, new in self._renamed.items() if new == name):
            decode = partial(self._decode_renamed, old)
            self._cut[HEAD + old] = partial(decode_cut, decode, codec.slot, codec.marker, on_bad)
        self._cut[HEAD + name] = partial(decode_cut, self._decode, codec.slot, codec.marker, on_bad)
        return partial(adopt, codec.slot, on_bad)

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

    def _bad_audio(self, event_type: str, path: str) -> None:
        self._count(event_type, Problem(path, "wrong_type", "the text is not valid base64"))

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
        name = kind.strip().encode()  # one server writes a stray blank into a type
        codec = self._types.get(self._renamed.get(name, name))
        if codec is None:
            self._count(kind, Problem("type", "unknown_variant", "no such event is known"))
            return UnknownEvent(event_type=kind, frame=frame)
        event, problems = walk(plain, codec.cls)
        for problem in problems:
            self._count(event.type, problem)
        return event

    def _invalid(self, frame: bytes, reason: str) -> InvalidFrame:
        self._count("", Problem("", "wrong_type", reason))
        return InvalidFrame(reason=reason, frame=frame)

    def _count(self, event_type: str, problem: Problem) -> None:
        path = re.sub(r"\[\d+\]", "[]", problem.path)  # one kind for all elements of an array
        key: tuple[str, str, str] = (event_type[:128], path[:256], problem.kind)
        if key not in self.drift_counts and len(self.drift_counts) >= _MAX_KINDS:
            key, problem = ("", "", "too many kinds"), _TOO_MANY
        self.drift_counts[key] += 1
        if self.drift_counts[key] == 1 and self._report is not None:
            self._report(_drift(key, problem))


def _drift(key: tuple[str, str, str], problem: Problem) -> Drift:
    return Drift(event_type=key[0], path=key[1], kind=problem.kind, message=problem.message)


def _as_bytes(frame: Any) -> bytes:
    if type(frame) is bytes:
        return frame
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
