"""A session of the local server on a virtual clock: no socket, no task, no waiting."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from realtime_bus import events as ev
from realtime_bus.codec import decode, encode
from realtime_bus.server import EnergyDetector, ServerOptions, Speech, Text, ToolCall
from realtime_bus.server._protocol import RealtimeProtocol
from realtime_bus.server._wire import CancelResponder, Close, StartResponder, Transcribe, to_frame

LOUD = (b"\x00\x30" + b"\x00\xd0") * 12  # 1 ms of a 12 kHz square wave, PCM16 at 24 kHz
QUIET = bytes(48)

Outputs = Iterable[Text | Speech | ToolCall]


def speech(ms: int) -> bytes:
    """Return what the energy detector takes for speech."""
    return LOUD * ms


def silence(ms: int) -> bytes:
    """Return silence."""
    return QUIET * ms


def spoken(ms: int, text: str = "La la.") -> list[Speech]:
    """Return a spoken answer in pieces of 100 ms, its text in the first."""
    pieces = [Speech(b"\x10\x00" * 2400, text if i == 0 else "") for i in range(ms // 100)]
    return pieces or [Speech(b"", text)]


class World:
    """A session protocol, its clock and its responder.

    Args:
        answers: What the responder makes, response by response, or a function that finds it;
            None leaves responders to the test, which finds their commands in `started`.
        options: The server's knobs.
    """

    def __init__(
        self,
        *answers: Outputs,
        manual: bool = False,
        words: Callable[[int], str | None] | None = None,
        kind: Any = "realtime",
        model: str = "test-model",
        **options: Any,
    ) -> None:
        self.now_s = 100.0
        self.events: list[ev.ServerEvent] = []
        self.wire: list[dict[str, Any]] = []
        self.started: list[StartResponder] = []
        self.cancelled: list[str] = []
        self.transcribe: list[Transcribe] = []
        self.close: Close | None = None
        self._answers = list(answers)
        self._manual = manual
        self._words = words
        self._counts: dict[str, int] = defaultdict(int)
        self.options = ServerOptions(**options)
        self.protocol = RealtimeProtocol(
            self.options,
            kind=kind,
            model=model,
            make_detector=EnergyDetector,
            now_s=self.now_s,
            epoch_s=1_700_000_000.0,
            new_id=self._new_id,
        )
        self._settle()

    def _new_id(self, kind: str) -> str:
        self._counts[kind] += 1
        return f"{kind}_{self._counts[kind]}"

    # In

    def send(self, *events: ev.ClientEvent | dict[str, Any] | bytes) -> list[ev.ServerEvent]:
        """Send events, and return what the server says at once."""
        before = len(self.events)
        for event in events:
            self.protocol.receive(_frame(event))
            self._settle()
        return self.events[before:]

    def say(self, *audio: bytes) -> list[ev.ServerEvent]:
        """Append audio; the clock stands still."""
        return self.send(*(ev.InputAudioBufferAppend(audio=piece) for piece in audio))

    def user_turn(self, ms: int = 500) -> list[ev.ServerEvent]:
        """Have the user say something and fall silent."""
        return self.say(silence(400), speech(ms), silence(400))

    def update(self, **session: Any) -> list[ev.ServerEvent]:
        """Send ``session.update``."""
        return self.send({"type": "session.update", "session": {"type": "realtime", **session}})

    def run(self, seconds: float = 60.0) -> list[ev.ServerEvent]:
        """Let time pass, from one deadline to the next."""
        before, end_s = len(self.events), self.now_s + seconds
        while (at := self.protocol.next_deadline()) is not None and at <= end_s:
            self.now_s = max(self.now_s, at)
            self._settle()
        self.now_s = end_s
        self._settle()
        return self.events[before:]

    def run_until(self, wanted: type, seconds: float = 60.0) -> list[ev.ServerEvent]:
        """Let time pass until an event of this class has come."""
        before, end_s = len(self.events), self.now_s + seconds
        while not any(isinstance(event, wanted) for event in self.events[before:]):
            at = self.protocol.next_deadline()
            assert at is not None, "nothing will happen any more"
            assert at <= end_s, "it did not happen in time"
            self.now_s = max(self.now_s, at)
            self._settle(once=True)
        return self.events[before:]

    # Out

    def _settle(self, *, once: bool = False) -> None:
        """Tick while there is something to do now."""
        while True:
            self.protocol.tick(self.now_s)
            more = [self._take(happening) for happening in self.protocol.drain()]
            at = self.protocol.next_deadline()
            if at is None or once or (at > self.now_s and not any(more)):
                return

    def _take(self, happening: Any) -> bool:
        """Carry out what the protocol says; tell whether that gives it something to do."""
        if isinstance(happening, ev.ServerEvent):
            frame = to_frame(happening, self.options)
            read = decode(frame)
            assert type(read) is type(happening)  # a client reads it without a flaw
            self.events.append(read)
            self.wire.append(msgspec.json.decode(frame))
            return False
        return _COMMANDS[type(happening)](self, happening)

    def _start(self, command: StartResponder) -> bool:
        self.started.append(command)
        if self._manual:
            return False
        answer = self._answers.pop(0) if self._answers else [Speech(b"", "Hm.")]
        for output in answer:
            self.protocol.responder_made(command.response_id, output)
        self.protocol.responder_finished(command.response_id)
        return True

    def _cancel(self, command: CancelResponder) -> bool:
        self.cancelled.append(command.response_id)
        return False

    def _transcribe(self, command: Transcribe) -> bool:
        self.transcribe.append(command)
        if self._words is None:
            return False
        self.protocol.transcribed(command.item_id, self._words(command.turn_index))
        return True

    def _close(self, command: Close) -> bool:
        self.close = command
        return False

    # Looking back

    def types(self) -> list[str]:
        """Return the types of all events so far."""
        return types(self.events)

    def last(self, wanted: type) -> Any:
        """Return the last event of a class."""
        return next(event for event in reversed(self.events) if isinstance(event, wanted))


_COMMANDS: dict[type, Callable[[World, Any], bool]] = {
    StartResponder: World._start,
    CancelResponder: World._cancel,
    Transcribe: World._transcribe,
    Close: World._close,
}


def _frame(event: ev.ClientEvent | dict[str, Any] | bytes) -> bytes:
    if isinstance(event, bytes):
        return event
    return msgspec.json.encode(event) if isinstance(event, dict) else encode(event)


def types(events: Iterable[ev.ServerEvent]) -> list[str]:
    """Return the events' types, runs of one delta taken as one."""
    found: list[str] = []
    for event in events:
        if not (found and event.type.endswith(".delta") and found[-1] == event.type):
            found.append(event.type)
    return found


def only_error(events: list[ev.ServerEvent]) -> ev.ErrorDetails:
    """Return the one event's error."""
    assert [event.type for event in events] == ["error"], types(events)
    error = events[0]
    assert isinstance(error, ev.Error)
    return error.error


def user_message(text: str = "Hi", **fields: Any) -> ev.ConversationItemCreate:
    """Return the event that adds a text message."""
    item = ev.MessageItem(role="user", content=[ev.InputText(text=text)], id=fields.pop("id", None))
    return ev.ConversationItemCreate(item=item, **fields)
