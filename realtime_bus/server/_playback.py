"""The server's half of a recorded session, played to a live client, frame by frame.

The rules
---------
* What is sent is what was recorded, byte for byte but for ids, and for what repeats what the
  client has said: late deltas, missing events, frames that are no events, the close in the middle.
  When it is sent, `realtime_bus.recording` says (`_halves`): in step with the client.
* What the client does beside the recording is told in the report. It is answered where nobody
  needs to think for it (settings, items, truncations, deletions, clearing), so that the client goes
  on; a response that was not recorded is refused with ``not_recorded``.
* When the two have parted, the client is told (``recording_parted``), and closed with 4000.
* A connection that the recorded server had ended ends as it did then; any other stays open.
* A recording of several connections: the next client that comes after one of them has ended gets
  the next one, else it begins anew. What a client then tells of the conversation until now is
  answered as above.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, cast

import msgspec

from realtime_bus import events as ev
from realtime_bus.codec import decode
from realtime_bus.codec._frame import wire_name
from realtime_bus.errors import CloseInfo, UsageError
from realtime_bus.events._registry import REALTIME, TRANSLATION, WireProtocol
from realtime_bus.log import get_logger
from realtime_bus.recording import Header, Line, PlaybackReport, Recording
from realtime_bus.recording._halves._causes import needs_of
from realtime_bus.recording._halves._connections import RecordedConnection, read_connections
from realtime_bus.recording._halves._half import PATIENCE_S, Half

from ._options import ServerOptions
from ._protocol import SessionProtocol
from ._wire import ClientFrame, Close, InvalidRequest, random_id

_log = get_logger("realtime_bus.server")

PARTED: Final = 4000
"""The close code of a session that goes another way than the recorded one."""

_BYTES_AT_ONCE: Final = 64 * 1024
_MAX_REPORTS: Final = 100
_GREETINGS: Final = (b"session.created", b"session.updated")


class Playback:
    """A recording that `RealtimeServer` plays: ``RealtimeServer(playback=Playback("bug.jsonl"))``.

    Args:
        recording: The recording, or its file, or its lines.
        pace: How many times faster than recorded; infinity as soon as the client is so far.
        patience_s: How long to wait for what the client does not do.
        microphone: Whether speech waits until the client has sent as much audio as the recorded
            one. A client without a microphone hears of it when it was then.

    Raises:
        RecordingError: The file is no recording.
        UsageError: There is nothing from a server in it, or a value is out of range.
    """

    def __init__(
        self,
        recording: Recording | str | os.PathLike[str] | Iterable[Line],
        *,
        pace: float = 1.0,
        patience_s: float = PATIENCE_S,
        microphone: bool = True,
    ) -> None:
        if not pace > 0:
            raise UsageError(f"pace must be above 0, not {pace}")
        if not patience_s > 0:
            raise UsageError(f"patience_s must be above 0, not {patience_s}")
        if isinstance(recording, str | os.PathLike):
            recording = Recording(recording)
        lines = list(recording) if not isinstance(recording, Recording) else recording
        self._connections = read_connections(lines, "server")
        self._needs = [needs_of(each.frames, "server") for each in self._connections]
        self._started_at = _started_at(lines)
        self._pace, self._patience_s, self._microphone = pace, patience_s, microphone
        self._sessions: deque[PlaybackProtocol] = deque(maxlen=_MAX_REPORTS)
        self._session: dict[str, Any] = {}
        if not any(f.side == "server" and not f.ends for f in self._connections[0].frames):
            raise UsageError("there is nothing from a server in this recording: nothing to play")

    @property
    def reports(self) -> tuple[PlaybackReport, ...]:
        """What became of the last 100 connections until now, the oldest first."""
        return tuple(session.report() for session in self._sessions)

    def begin(self, options: ServerOptions, *, now_s: float, epoch_s: float) -> PlaybackProtocol:
        """Return the next session's protocol."""
        waiting = (each for each in self._sessions if each.wants_next)
        before = next(waiting, None)
        number = 0 if before is None else before.number + 1
        later_s = 0 if self._started_at is None else round(epoch_s - self._started_at)
        half = Half(
            self._connections[number],
            "server",
            now_s=now_s,
            pace=self._pace,
            patience_s=self._patience_s,
            microphone=self._microphone,
            later_s=later_s,
            needs=self._needs[number],
        )
        session = PlaybackProtocol(
            options,
            half,
            self._connections[number],
            number=number,
            has_next=number + 1 < len(self._connections),
            session={} if before is None else before.session,
            now_s=now_s,
        )
        if before is not None:
            before.wants_next = False
        self._sessions.append(session)
        return session


class PlaybackProtocol(SessionProtocol):
    """One session to which a recording is played.

    Args:
        options: The server's knobs.
        half: The recording.
        connection: The same, as data.
        number: Which of the recording's connections it is.
        has_next: Whether there is another after it.
        session: The settings that the session had until now, as the server says them.
        now_s: The clock's time now.

    Attributes:
        number: Which of the recording's connections it is.
        session: The session's settings.
        wants_next: Whether it has ended and the next connection goes on from here.
    """

    def __init__(
        self,
        options: ServerOptions,
        half: Half,
        connection: RecordedConnection,
        *,
        number: int,
        has_next: bool,
        session: dict[str, Any],
        now_s: float,
    ) -> None:
        super().__init__(options, now_s=now_s, new_id=random_id)
        # the recorded greeting says both; type checkers want what is set later to be declared
        self.session_id: str = self.session_id
        self.speaks: WireProtocol = REALTIME
        self.number: int = number
        self.session: dict[str, Any] = session
        self.wants_next: bool = False
        self._half = half
        self._recorded_close = connection.close
        self._ended_with: CloseInfo | None = None
        self._has_next = has_next
        self._restoring = not connection.greeted and number > 0
        self._answers: dict[type, Callable[[dict[str, Any]], None]] = {
            ev.SessionUpdate: self._update,
            ev.ConversationItemCreate: self._create_item,
            ev.ConversationItemTruncate: self._truncate_item,
            ev.ConversationItemDelete: self._delete_item,
            ev.InputAudioBufferClear: self._clear,
            ev.ResponseCancel: self._cancel,
        }
        if not connection.greeted:
            self.session = {"type": "realtime", **session, "id": self.session_id}
            self.greet()

    def report(self) -> PlaybackReport:
        """Return what became of it until now."""
        return self._half.report(self.number, close=self._ended_with)

    # What SessionProtocol wants

    def greet(self, client: object = None) -> None:
        """Say ``session.created``, with the settings of now."""
        frame = msgspec.json.encode({"type": "session.created", "session": self.session})
        event = decode(frame)
        assert isinstance(event, ev.ServerEvent)  # noqa: S101  # as it was made
        self._out.send(event, to=client)

    def transcribed(self, item_id: str, transcript: str | None) -> None:
        """Take no words: they are in the recording."""

    @property
    def _behind(self) -> bool:
        return False

    def _hear(self) -> int:
        return 0

    def _deadlines(self) -> list[float]:
        at_s = self._half.next_deadline()
        return [] if at_s is None else [at_s]

    def _handle(self, frame: bytes, sender: object) -> None:
        """Note what the client does; answer what the recorded one did not do."""
        kind = wire_name(frame)
        if kind not in _RESTORING:
            self._restoring = False
        if not self._half.see(frame, self._out.now_s, restoring=self._restoring):
            super()._handle(frame, sender)

    def _advance(self) -> None:
        half, now_s = self._half, self._out.now_s
        for frame in half.due(now_s, max_bytes=_BYTES_AT_ONCE):
            if wire_name(frame) in _GREETINGS:
                self._note_session(frame)
            self._out.order(frame)
        if half.parted:
            where = str(half.deviations[-1])
            _log.warning("a client goes another way than the recorded one", where=where)
            message = f"The recorded session goes another way: {where}."
            self._out.send(InvalidRequest("recording_parted", message).to_event(None))
            self._close(Close(PARTED, "recording_parted"))
        elif half.ended:
            close = self._recorded_close
            assert close is not None  # noqa: S101  # it is what has ended it
            self.wants_next = self._has_next
            self._close(Close(close.code, close.reason))
        elif half.finished:
            self.wants_next = self._has_next

    def _close(self, close: Close) -> None:
        self._ended_with = CloseInfo(code=close.code, reason=close.reason)
        super()._close(close)

    def _note_session(self, frame: bytes) -> None:
        told: Any = msgspec.json.decode(frame)
        if not isinstance(told.get("session"), dict):
            return
        session: dict[str, Any] = told["session"]
        self.session = session
        self.session_id = str(session.get("id") or self.session_id)
        self.speaks = TRANSLATION if session.get("type") == "translation" else REALTIME

    # What was not recorded

    def _carry_out(self, event: ev.ClientEvent, frame: ClientFrame) -> None:
        answer = self._answers.get(type(event))
        if answer is None:
            message = f"{event.type} was not recorded here; it has no answer."
            raise InvalidRequest("not_recorded", message)
        answer(frame.plain)

    def _say(self, kind: str, **fields: Any) -> None:
        self._out.order(
            msgspec.json.encode({"type": kind, "event_id": self._out.new_id("event"), **fields})
        )

    def _update(self, said: dict[str, Any]) -> None:
        self.session = _merged(self.session, said["session"])
        self._say("session.updated", session=self.session)

    def _create_item(self, said: dict[str, Any]) -> None:
        item = {"id": self._out.new_id("item"), "status": "completed", **said["item"]}
        for kind in ("conversation.item.added", "conversation.item.done"):
            self._say(kind, item=item, previous_item_id=said.get("previous_item_id"))

    def _truncate_item(self, said: dict[str, Any]) -> None:
        told = {name: said[name] for name in ("item_id", "content_index", "audio_end_ms")}
        self._say("conversation.item.truncated", **told)

    def _delete_item(self, said: dict[str, Any]) -> None:
        self._say("conversation.item.deleted", item_id=said["item_id"])

    def _clear(self, _said: dict[str, Any]) -> None:
        self._say("input_audio_buffer.cleared")

    def _cancel(self, _said: dict[str, Any]) -> None:
        message = "Cancellation failed: nothing was cancelled here in the recording."
        raise InvalidRequest("response_cancel_not_active", message)


_RESTORING: Final = (b"session.update", b"conversation.item.create")


def _merged(settings: Any, changes: Any) -> Any:
    if not isinstance(settings, dict) or not isinstance(changes, dict):
        return changes
    before, after = cast("dict[str, Any]", settings), cast("dict[str, Any]", changes)
    return {**before, **{name: _merged(before.get(name), after[name]) for name in after}}


def _started_at(lines: Iterable[Line]) -> float | None:
    first = next(iter(lines), None)
    if not isinstance(first, Header):
        return None
    try:
        return datetime.fromisoformat(first.started_at).timestamp()
    except ValueError:
        return None
