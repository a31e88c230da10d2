"""What happened in the demo's conversation, noted by ordinary handlers of the bus."""

from __future__ import annotations

from collections import Counter, deque
from time import perf_counter
from typing import Any

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem
from realtime_bus_plugins.devices import DeviceLost, DeviceReopened
from realtime_bus_plugins.interruption import PlaybackInterrupted, PlaybackStarted

_KEPT_LINES = 200
_UNSHOWN = {"bus.input_level"}  # ten times a second, and the meter shows it


class Line:
    """An event that passed, or a run of the same ones."""

    __slots__ = ("at_s", "count", "detail", "kind", "name")

    def __init__(self, at_s: float, name: str, kind: str, detail: str) -> None:
        self.at_s = at_s
        self.name = name
        self.kind = kind
        self.detail = detail
        self.count = 1


class Said:
    """Something that somebody said.

    Attributes:
        who: ``"person"`` or ``"assistant"``.
        item_id: Which item of the conversation.
        text: The words, as far as they are known.
        cut_ms: How much of it was heard before it was interrupted, or None if it was not.
        heard_share: That, as a part of what had been received, from 0 to 1.
    """

    __slots__ = ("cut_ms", "heard_share", "item_id", "text", "who")

    def __init__(self, who: str, item_id: str, text: str = "") -> None:
        self.who = who
        self.item_id = item_id
        self.text = text
        self.cut_ms: int | None = None
        self.heard_share = 1.0

    def heard_chars(self, share: float) -> int:
        """Return about how many characters are in a part of it, to the end of a word."""
        guess = round(len(self.text) * share)
        end = self.text.find(" ", guess)
        return end if guess and end >= 0 else guess


class Record:
    """Notes everything that the view shows and the judge needs.

    Args:
        bus: Whose events; those of the sessions that it opens from now on.

    Attributes:
        counts: How many events of each type came.
        lines: The last events, runs of deltas as one.
        said: The transcript, in order.
        interruptions: What the interruption plugin did.
        truncated: The server's confirmations.
        errors: The server's errors.
        failures: Handlers that raised.
        responses: Finished responses, in order.
        received_bytes: Audio received, by item.
        turns: How many turns of the person the server committed.
        started: Items whose first audio could be heard, in order.
        unheard: What the sink had still to play when the conversation ended.
        lost: Which devices are not there: ``"microphone"``, ``"speaker"``.
        losses: How often one was lost.
    """

    def __init__(self, bus: Bus) -> None:
        self.started_s = perf_counter()
        self.counts: Counter[str] = Counter()
        self.lines: deque[Line] = deque(maxlen=_KEPT_LINES)
        self.said: list[Said] = []
        self.interruptions: list[PlaybackInterrupted] = []
        self.truncated: list[ev.ConversationItemTruncated] = []
        self.errors: list[ev.ErrorDetails] = []
        self.failures: list[ev.HandlerFailed] = []
        self.responses: list[ev.Response] = []
        self.received_bytes: Counter[str] = Counter()
        self.turns = 0
        self.started: list[str] = []
        self.unheard: list[PlayedItem] = []
        self.lost: set[str] = set()
        self.losses = 0
        self.speech_heard = False
        self._register(bus)

    def _register(self, bus: Bus) -> None:
        bus.on("*")(self._note)
        bus.on(ev.ResponseOutputAudioDelta)(self._audio)
        bus.on(ev.ResponseOutputAudioTranscriptDelta)(self._words)
        bus.on(ev.ConversationItemInputAudioTranscriptionDelta)(self._hears_person)
        bus.on(ev.ConversationItemInputAudioTranscriptionCompleted)(self._heard_person)
        bus.on(ev.InputAudioBufferSpeechStarted, ev.InputAudioBufferSpeechStopped)(self._speech)
        bus.on(ev.InputAudioBufferCommitted)(self._turn)
        bus.on(PlaybackStarted)(lambda event: self.started.append(event.item_id))
        bus.on(PlaybackInterrupted)(self._interrupted)
        bus.on(ev.ConversationItemTruncated)(self.truncated.append)
        bus.on(ev.ResponseDone)(lambda event: self.responses.append(event.response))
        bus.on(ev.Error)(lambda event: self.errors.append(event.error))
        bus.on(ev.HandlerFailed)(self.failures.append)
        bus.on(DeviceLost, DeviceReopened)(self._device)

    def now_s(self) -> float:
        """Return seconds since the start."""
        return perf_counter() - self.started_s

    def _note(self, event: ev.Event) -> None:
        if event.type in _UNSHOWN:
            return
        self.counts[event.type] += 1
        last = self.lines[-1] if self.lines else None
        if last is not None and last.name == event.type and event.type.endswith(".delta"):
            last.count += 1
            last.detail = _detail(event)
            return
        kind = "bus" if isinstance(event, ev.BusEvent) else "server"
        self.lines.append(Line(self.now_s(), event.type, kind, _detail(event)))

    def _audio(self, event: ev.ResponseOutputAudioDelta) -> None:
        self.received_bytes[event.item_id] += len(event.delta)

    def _words(self, event: ev.ResponseOutputAudioTranscriptDelta) -> None:
        self._of("assistant", event.item_id).text += event.delta

    def _hears_person(self, event: ev.ConversationItemInputAudioTranscriptionDelta) -> None:
        self._of("person", event.item_id).text += event.delta

    def _heard_person(self, event: ev.ConversationItemInputAudioTranscriptionCompleted) -> None:
        self._of("person", event.item_id).text = event.transcript

    def _speech(self, event: Any) -> None:
        self.speech_heard = isinstance(event, ev.InputAudioBufferSpeechStarted)

    def _turn(self, event: ev.InputAudioBufferCommitted) -> None:
        self.turns += 1
        self._of("person", event.item_id)

    def _interrupted(self, event: PlaybackInterrupted) -> None:
        self.interruptions.append(event)
        for item in event.items:
            said = self._of("assistant", item.item_id)
            said.cut_ms = item.played_ms
            said.heard_share = item.played_ms / max(item.received_ms, 1)

    def _device(self, event: DeviceLost | DeviceReopened) -> None:
        self.lost.discard(event.kind)
        if isinstance(event, DeviceLost):
            self.lost.add(event.kind)
            self.losses += 1

    def _of(self, who: str, item_id: str) -> Said:
        for said in self.said:
            if said.item_id == item_id:
                return said
        self.said.append(Said(who, item_id))
        return self.said[-1]


_SHOWN = (
    "audio_start_ms", "audio_end_ms", "item_id", "transcript", "code", "reason", "handler", "kind",
)  # fmt: skip  # one line more


def _detail(event: Any) -> str:
    """Return what an event is about, in few words."""
    if isinstance(event, PlaybackInterrupted):
        heard = ", ".join(
            f"{item.played_ms} of {item.received_ms} ms heard" for item in event.items
        )
        return f"{heard}; silent after {event.latency_s * 1000:.2f} ms"
    if isinstance(event, ev.ResponseCreated | ev.ResponseDone):
        details = event.response.status_details
        reason = f" ({details.reason})" if details is not None and details.reason else ""
        return f"{event.response.status}{reason}"
    if isinstance(event, ev.Error):
        return event.error.message
    if isinstance(event, ev.ResponseOutputAudioTranscriptDelta):
        return repr(event.delta)
    fields = ((name, getattr(event, name, None)) for name in _SHOWN)
    shown = ((name, value) for name, value in fields if isinstance(value, str | int))
    return " ".join(f"{name}={value}" for name, value in shown if value != "")
