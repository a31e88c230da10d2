"""What a replay must know of a recording before it begins: found in one pass over its lines.

Rules:

1. Expected of the replayed bus are all commands, events of the application and failures of handlers
   that the recording has, but what is left to the recording: audio; settings sent before anything
   else has happened, which are `Bus.connect`'s; and what the caller says.
2. A frame of the server's answers a command as `Requests` has it, a response answers the request
   whose mark it bears, or else the oldest one. What answers nothing is not held back.
3. What stands ``aside`` was between a server and the library alone, and is passed over. What a sink
   that plays far away learned of a flush later, it had heard.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias, cast

import msgspec

from realtime_bus import events as ev
from realtime_bus.codec import Decoder, decode_client, encode, narrow
from realtime_bus.codec._frame import NotAnObject, parse_object, wire_name
from realtime_bus.errors import InvalidEvent
from realtime_bus.events import PROTOCOLS, ProtocolName
from realtime_bus.events._registry import BUS_EVENTS
from realtime_bus.recording._format import (
    Ended,
    Flushed,
    Header,
    Left,
    Line,
    Named,
    Received,
    Sent,
    Told,
)
from realtime_bus.session._arbiter import MARK
from realtime_bus.session._requests import ANSWERED, SEEN, Pending, Requests

from ._act import Act

ActSelector: TypeAlias = str | Callable[[dict[str, Any]], bool]
"""Which acts: a name or pattern such as ``conversation.item.*``, or a predicate of the fields."""


AUDIO: Final = frozenset({b"input_audio_buffer.append", b"session.input_audio_buffer.append"})
_OPENING: Final = {
    "session.created",
    "session.updated",
    "conversation.created",
    "rate_limits.updated",
}
_BEGUN: Final = frozenset(
    name.encode()
    for protocol in PROTOCOLS.values()
    for name in protocol.server
    if name not in _OPENING
)
_SEEN: Final[tuple[type[ev.Event], ...]] = (*SEEN, ev.ResponseCreated)
_WATCHED: Final = frozenset(str(cls.__struct_config__.tag).encode() for cls in _SEEN)
_FAILED: Final = "bus.handler_failed"
_NEXT_CONNECTION: Final = frozenset({"bus.reconnecting", "bus.reconnected"})
_SAYS_WHICH: Final = re.compile(rb'"(?:event_id|call_id)"')


class Plan:
    """A recording, as far as a replay must know it beforehand.

    Args:
        lines: The recording.
        left: What is left to the recording, besides audio and the first settings.
        outside: Names of events that came from outside: the replay emits them again.

    Attributes:
        acts: What is compared, in order.
        answers: The acts that a frame answers, by its number among the received ones.
        flushes: Where the sink was silenced.
        left: How many acts are left to the recording, by name.
        has_created: Whether it has the session's beginning.
        protocol: What is spoken.
        reconnects: Whether a connection was lost, and the session went on.
        ended: Its end; None if it was cut off.
        last_us: When its last line was written.
        told: How often plugins have emitted an event, by name.
        missing: Why lines are missing, in words, and how many.
        unmet: What the caller names, and the recording has not.
    """

    def __init__(
        self, lines: Iterable[Line], *, left: Sequence[ActSelector], outside: Iterable[str]
    ) -> None:
        self.acts: list[Act] = []
        self.answers: dict[int, list[Act]] = {}
        self.flushes: list[Flushed] = []
        self.left: Counter[str] = Counter()
        self.has_created: bool = False
        self.protocol: ProtocolName = "realtime"
        self.reconnects: bool = False
        self.ended: Ended | None = None
        self.last_us: int = 0
        self.told: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self._left = tuple(left)
        self._outside = frozenset(outside)
        self.unmet: set[str] = {each for each in left if isinstance(each, str)} | self._outside
        self._opening = True
        self._requests = Requests()
        self._creates: list[Act] = []  # that nothing has answered
        self._decode = Decoder("realtime").decode
        self._number = 0
        self._latest: set[int] = set()  # hashes of commands that say which they are
        self._earlier: set[int] = set()  # the same of the connections before
        for line in lines:
            self.last_us = max(self.last_us, line.t_us)
            read = self._READ.get(type(line))
            if read is not None and not getattr(line, "aside", False):
                read(self, line)
        self.unmet = {  # audio has been counted alone
            each for each in self.unmet if not any(fnmatchcase(name, each) for name in self.left)
        }

    def _header(self, line: Header) -> None:
        if "/translations" in line.url:
            self.protocol = "translation"

    def _sent(self, line: Sent) -> None:
        name = wire_name(data_of(line))
        if name in AUDIO:
            self.left[name.decode()] += 1
            if name != b"input_audio_buffer.append":
                self.protocol = "translation"
            return
        frame = data_of(line)
        is_first = self._opening and name == b"session.update"
        self._opening = is_first
        left = is_first or hash(frame) in self._earlier
        if _SAYS_WHICH.search(frame):
            self._latest.add(hash(frame))
        try:
            act = self._act(line.t_us, parse_object(frame), left=left)
        except (NotAnObject, RecursionError):
            return
        if act.expected:
            self._await_answer(act, frame)

    def _act(
        self, t_us: int, fields: dict[str, Any], *, left: bool = False, is_event: bool = False
    ) -> Act:
        for selector in self._left:
            if _selects(selector, fields):
                left = True
                self.unmet -= {selector} if isinstance(selector, str) else set()
        act = Act(t_us, fields, expected=not left, is_event=is_event)
        self.acts.append(act)
        return act

    def _await_answer(self, act: Act, frame: bytes) -> None:
        if act.type == "response.create":
            self._creates.append(act)
            return
        command = decode_client(frame, protocol=self.protocol)
        if isinstance(command, ev.ClientEvent) and type(command) in ANSWERED and _is_valid(command):

            def settled() -> None:
                self.answers.setdefault(self._number, []).append(act)

            self._requests.expect(Pending(command, settled))
            self._requests.sent(command, command)

    def _received(self, line: Received) -> None:
        frame = data_of(line)
        name = wire_name(frame)
        self._opening = self._opening and name not in _BEGUN  # what is odd ends nothing
        self.has_created = self.has_created or name == b"session.created"
        if name in _WATCHED:
            event = narrow(self._decode(frame))
            if isinstance(event, ev.ResponseCreated):
                self._answered_by(event)
            else:
                if isinstance(event, ev.Error):
                    self._refused(event)
                if isinstance(event, SEEN):
                    self._requests.observe(event)
        self._number += 1

    def _answered_by(self, event: ev.ResponseCreated) -> None:
        metadata: Any = getattr(event.response, "metadata", None)
        mark: Any = (
            cast("dict[str, Any]", metadata).get(MARK) if isinstance(metadata, dict) else None
        )
        for act in self._creates:
            if mark is None or act.made_up.get("mark") == mark:
                self._creates.remove(act)
                self.answers.setdefault(self._number, []).append(act)
                return

    def _refused(self, event: ev.Error) -> None:
        refused = getattr(event.error, "event_id", None)
        for act in [each for each in self._creates if each.made_up.get("event_id") == refused]:
            self._creates.remove(act)
            self.answers.setdefault(self._number, []).append(act)

    def _told(self, line: Told) -> None:
        self.reconnects = self.reconnects or line.type == "bus.reconnecting"
        if not line.application and line.type not in BUS_EVENTS:
            self.told[line.type] += 1
        if line.type in _NEXT_CONNECTION:
            self._named(line)
        self.unmet.discard(line.type)
        compared = line.application or line.type == _FAILED
        if compared and line.type not in self._outside:
            self._act(line.t_us, {**line.event, "type": line.type}, is_event=True)

    def _named(self, _line: Line) -> None:
        """Note that another connection takes over, or is about to."""
        self._earlier |= self._latest
        self._latest.clear()

    def _flushed(self, line: Flushed) -> None:
        if line.settled and self.flushes:
            line = msgspec.structs.replace(self.flushes.pop(), items=line.items)
        self.flushes.append(line)

    def _missing(self, line: Left) -> None:
        self.missing[line.why or "lines came faster than they could be written"] += line.lines

    def _ended(self, line: Ended) -> None:
        self.ended = line

    _READ: Final[dict[type, Callable[[Plan, Any], None]]] = {
        Header: _header,
        Sent: _sent,
        Received: _received,
        Told: _told,
        Named: _named,
        Flushed: _flushed,
        Left: _missing,
        Ended: _ended,
    }


def data_of(line: Received | Sent) -> bytes:
    """Return a frame's bytes; none, if the line is damaged."""
    try:
        return line.data
    except ValueError:
        return b""


def _selects(selector: ActSelector, fields: dict[str, Any]) -> bool:
    if isinstance(selector, str):
        return fnmatchcase(str(fields.get("type")), selector)
    return bool(selector(fields))


def _is_valid(command: ev.ClientEvent) -> bool:
    """Tell whether a server would take a command: to another one there is no answer."""
    try:
        encode(command)
    except (InvalidEvent, TypeError, ValueError, RecursionError):
        return False
    return True
