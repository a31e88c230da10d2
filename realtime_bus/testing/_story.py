"""What happened in a call, as a time line for people: what a test that fails shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple, cast

import msgspec

from realtime_bus import events as ev
from realtime_bus.session import Session
from realtime_bus_plugins.protocol_check import ProtocolViolation

STORY_TITLE = "What happened in the call:"
_MAX_NOTES = 2_000
_WIDTH = 160


class Note(NamedTuple):
    """Something that happened: when in the call, who did it, and what."""

    at_s: float
    who: str
    what: str


class ToolUse:
    """A function that the model called.

    Attributes:
        name: The function.
        arguments: What it was called with; text where that is no JSON object.
        call_id: The call.
        output: What was returned; None if nothing was yet.
        called_s: When it was called, on the call's clock.
        answered_s: When the output was sent; None if it was not yet.
    """

    def __init__(self, item: ev.FunctionCallItem, called_s: float) -> None:
        self.name: str = item.name
        self.call_id: str = item.call_id or ""
        self.arguments: Any = item.arguments
        self.output: str | None = None
        self.called_s = called_s
        self.answered_s: float | None = None
        with suppress(msgspec.DecodeError):
            self.arguments = msgspec.json.decode(item.arguments or "{}")

    def __repr__(self) -> str:
        return f"{self.name}({shown(self.arguments)})"


class Story:
    """Notes what happens in a session.

    Args:
        clock: The call's: it began at 0.

    Attributes:
        now_s: The clock.
        sources: Give more notes, when they are asked for.
        problems: What should not happen in a good call, by what it may be tolerated by.
        tool_uses: The functions that were called.
        sent: What was sent, without audio.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now_s: Callable[[], float] = clock
        self._notes: list[Note] = []
        self.sources: list[Callable[[], Iterable[Note]]] = []
        self.problems: list[tuple[frozenset[str], str]] = []
        self.tool_uses: list[ToolUse] = []
        self.sent: list[ev.ClientEvent] = []

    def note(self, who: str, what: str) -> None:
        """Note that something happened now."""
        if len(self._notes) < _MAX_NOTES:
            self._notes.append(Note(self.now_s(), who, what))

    def problem(self, what: str, *names: str | None) -> None:
        """Note that something went wrong, and by which names it may be tolerated."""
        self.note("problem", what)
        self.problems.append((frozenset(name for name in names if name), what))

    def attach(self, session: Session[Any]) -> None:
        """Watch a session."""
        session.on(*self._TOLD)(self._told)
        session.intercept_outgoing(tuple(ev.REALTIME.client.values()), self._sends)

    def _told(self, event: ev.Event) -> None:
        self._TOLD[type(event)](self, event)

    def _sends(self, event: ev.ClientEvent, session: Session[Any]) -> ev.ClientEvent:
        if session.close_info is not None:  # it will not leave
            return event
        if not isinstance(event, ev.InputAudioBufferAppend):
            self.sent.append(event)
        if tell := self._SENT.get(type(event)):
            tell(self, event)
        return event

    def render(self) -> str:
        """Return the time line, a line for each note."""
        notes = [*self._notes, *(note for source in self.sources for note in source())]
        return "\n".join(_line(note) for note in sorted(notes, key=lambda note: note.at_s))

    def error(self, message: str) -> AssertionError:
        """Return an error that shows what happened."""
        return AssertionError(f"{message}\n\n{STORY_TITLE}\n{self.render()}")

    # what is told of

    def _calls(self, event: ev.ResponseOutputItemDone) -> None:
        if isinstance(event.item, ev.FunctionCallItem):
            self.tool_uses.append(ToolUse(event.item, self.now_s()))
            self.note("assistant", f"calls {self.tool_uses[-1]}")

    def _outputs(self, event: ev.ConversationItemCreate) -> None:
        item = event.item
        if isinstance(item, ev.FunctionCallOutputItem):
            found = [use for use in self.tool_uses if use.call_id == item.call_id]
            for use in found:
                use.output, use.answered_s = item.output, self.now_s()
            self.note("tool", f"{found[0].name if found else item.call_id} → {item.output}")
        elif isinstance(item, ev.MessageItem):
            texts = [part.text for part in item.content if isinstance(part, ev.InputText)]
            self.note(item.role, f"writes {' '.join(filter(None, texts))!r}")

    def _truncates(self, event: ev.ConversationItemTruncate) -> None:
        self.note("session", f"truncates {event.item_id} at {event.audio_end_ms} ms")

    def _refused(self, event: ev.Error) -> None:
        error = event.error
        name = error.code or error.type
        self.problem(f"the server refused: {error.message} ({name})", error.code, error.type)

    def _failed(self, event: ev.HandlerFailed) -> None:
        self.problem(f"{event.handler} raised {event.error!r}", "handler_failed", event.handler)

    def _violated(self, event: ProtocolViolation) -> None:
        self.problem(event.message, event.rule)

    def _transcribed(self, event: ev.ConversationItemInputAudioTranscriptionCompleted) -> None:
        self.note("server", f"understood {event.transcript!r}")

    def _responded(self, event: ev.ResponseDone) -> None:
        if event.response.status != "completed":
            details = event.response.status_details
            reason = getattr(details, "reason", None)
            self.note("server", f"response {event.response.status}" + f" ({reason})" * bool(reason))

    def _connected(self, event: ev.Connected) -> None:
        self.note("session", f"connected ({event.session_id})")

    def _reconnecting(self, event: ev.Reconnecting) -> None:
        self.note("session", f"has no connection ({event.code}); try {event.attempt}")

    def _reconnected(self, event: ev.Reconnected) -> None:
        self.note("session", f"reconnected after {event.gap_s:.2f} s")

    def _closed(self, event: ev.Closed) -> None:
        self.note("session", f"closed ({event.code}{', ' * bool(event.reason)}{event.reason})")

    def _hears(self, event: ev.InputAudioBufferSpeechStarted) -> None:
        self.note("server", f"hears speech, from {event.audio_start_ms} ms of its input on")

    def _hears_end(self, event: ev.InputAudioBufferSpeechStopped) -> None:
        self.note("server", f"hears its end, at {event.audio_end_ms} ms")

    def _cancels(self, _event: ev.ResponseCancel) -> None:
        self.note("session", "cancels the response")

    _TOLD: ClassVar[dict[type[ev.Event], Callable[[Story, Any], None]]] = {
        ev.Connected: _connected,
        ev.InputAudioBufferSpeechStarted: _hears,
        ev.InputAudioBufferSpeechStopped: _hears_end,
        ev.ConversationItemInputAudioTranscriptionCompleted: _transcribed,
        ev.ResponseOutputItemDone: _calls,
        ev.ResponseDone: _responded,
        ev.Error: _refused,
        ev.HandlerFailed: _failed,
        ProtocolViolation: _violated,
        ev.Reconnecting: _reconnecting,
        ev.Reconnected: _reconnected,
        ev.Closed: _closed,
    }
    _SENT: ClassVar[dict[type[ev.ClientEvent], Callable[[Story, Any], None]]] = {
        ev.ConversationItemCreate: _outputs,
        ev.ConversationItemTruncate: _truncates,
        ev.ResponseCancel: _cancels,
    }


def shown(arguments: Any) -> str:
    """Return a call's arguments as one would write them."""
    if not isinstance(arguments, dict):
        return repr(arguments)
    named = cast("dict[str, Any]", arguments)
    return ", ".join(f"{name}={value!r}" for name, value in named.items())


def _line(note: Note) -> str:
    what = " ".join(note.what.split())
    what = what if len(what) <= _WIDTH else what[: _WIDTH - 1] + "…"
    return f"{note.at_s:9.2f} s  {note.who:<9}  {what}"
