"""A line and the ear at its other end in virtual time, with a network between them."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from realtime_bus.audio import AcknowledgedSink, AudioPiece, PlayedItem, bytes_per_ms
from realtime_bus.events import AudioFormat
from realtime_bus_plugins._telephony import Heard, Line, StreamFormat
from realtime_bus_plugins._telephony._formats import silence
from realtime_bus_plugins.telephony import PLIVO, TELNYX, TWILIO, VONAGE, LineProblem

from ._phone import CALL_SID, STREAM_SID, Playout, started

TELNYX_START = {
    "event": "start",
    "sequence_number": "1",
    "stream_id": STREAM_SID,
    "start": {
        "user_id": "3E6F995F-85F7-4705-9741-53B116D28237",
        "call_control_id": CALL_SID,
        "from": "+13122010094",
        "to": "+13122123456",
        "custom_parameters": {"customer_id": "c1"},
        "media_format": {"encoding": "PCMA", "sample_rate": 8000, "channels": 1},
    },
}
VONAGE_START = {
    "event": "websocket:connected",
    "content-type": "audio/l16;rate=24000",
    "customer_id": "c1",
}
PLIVO_START = {
    "event": "start",
    "sequenceNumber": 1,
    "start": {
        "callId": CALL_SID,
        "streamId": STREAM_SID,
        "accountId": "MAXXXXXXXXXXXXXXXXXX",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
    },
    "extra_headers": "customer_id=c1;language=en",
}
STARTS: dict[str, tuple[StreamFormat, dict[str, Any]]] = {
    "Twilio": (TWILIO, started(customer_id="c1")),
    "Telnyx": (TELNYX, TELNYX_START),
    "Vonage": (VONAGE, VONAGE_START),
    "Plivo": (PLIVO, PLIVO_START),
}
"""How each provider begins a call, as its documentation shows it."""


def read_sent(message: str | bytes) -> tuple[str, Any]:
    """Return what a provider makes of a message of ours: audio, a mark, or a clear."""
    if isinstance(message, bytes):
        return "audio", message
    match json.loads(message):
        case {"event": "media" | "playAudio", "media": {"payload": payload}}:
            return "audio", base64.b64decode(payload, validate=True)
        case {"event": "mark", "mark": {"name": name}}:
            return "mark", name
        case {"event": "checkpoint", "name": name}:
            return "mark", name
        case {"action": "notify", "payload": payload}:
            return "mark", payload
        case {"event": "clear" | "clearAudio"} | {"action": "clear"}:
            return "clear", None
        case other:
            raise AssertionError(other)


def mark_back(stream_format: StreamFormat, name: Any) -> str:
    """Return a provider's message of a mark that was reached."""
    messages: dict[str, Any] = {
        "Twilio": {"event": "mark", "streamSid": STREAM_SID, "mark": {"name": name}},
        "Telnyx": {"event": "mark", "stream_id": STREAM_SID, "mark": {"name": name}},
        "Vonage": {"event": "websocket:notify", "payload": name},
        "Plivo": {"event": "playedStream", "streamId": STREAM_SID, "name": name},
    }
    return json.dumps(messages[stream_format.name])


class Ear:
    """A sink on a line whose provider plays in virtual time.

    Args:
        provider: Whose.
        down_ms: How long what we send is on its way; drawn anew for each message.
        up_ms: How long a mark is on its way back.
        mark_ms: For the line.
        loses: Whether a mark is lost on its way.
    """

    def __init__(
        self,
        provider: str = "Twilio",
        *,
        down_ms: Callable[[], float] = lambda: 0,
        up_ms: Callable[[], float] = lambda: 0,
        mark_ms: int = 20,
        loses: Callable[[], bool] = lambda: False,
    ) -> None:
        self.format, start = STARTS[provider]
        self.now_ms = 0.0
        self.line = Line(self.format, mark_ms=mark_ms, clock=lambda: self.now_ms / 1000)
        self.problems: list[LineProblem] = []
        self.sink = AcknowledgedSink(send=self._play, clear=self._clear, piece_ms=max(100, mark_ms))
        self.take(json.dumps(start))
        assert self.line.call is not None
        self.audio_format: AudioFormat = self.line.call.output_format
        self.playout = Playout(
            bytes_per_ms(self.audio_format),
            counted=lambda audio: len(audio) - audio.count(silence(1, self.audio_format)),
        )
        self.sent: list[str | bytes] = []
        self.most_buffered_bytes = 0
        self._down_ms, self._up_ms, self._loses = down_ms, up_ms, loses
        self._down: deque[tuple[float, str | bytes]] = deque()
        self._up: deque[tuple[float, Any]] = deque()

    def take(self, message: str | bytes) -> list[Any]:
        """Let the line read a message, and the sink know of what was heard."""
        happened = list(self.line.receive(message))
        self._happened(happened)
        return happened

    def _happened(self, happened: list[Any]) -> None:
        for each in happened:
            if isinstance(each, Heard):
                for item_id, content_index, ms in each.positions:
                    self.sink.on_played(item_id, ms, content_index=content_index)
            elif isinstance(each, LineProblem):
                self.problems.append(each)

    def advance(self, seconds: float) -> None:
        """Let time pass, a millisecond at a time."""
        for _ in range(round(seconds * 1000)):
            self._pump()
            self.now_ms += 1
            self._return(self.playout.play(1))
            if self.now_ms % 10 == 0:
                self._happened(list(self.line.tick()))
                if self.line.playout.is_dry:
                    self.line.playout.finish()
            self._pump()

    def _pump(self) -> None:
        """Let messages leave, and arrive that are due."""
        while (message := self.line.playout.next_message()) is not None:
            self.sent.append(message)
            at_ms = self.now_ms + self._down_ms()
            self._down.append((max(at_ms, self._down[-1][0] if self._down else 0), message))
        while self._down and self._down[0][0] <= self.now_ms:
            match read_sent(self._down.popleft()[1]):
                case "clear", _:
                    self._return(self.playout.clear())
                case "mark", name:
                    self.playout.queue(name if isinstance(name, str) else json.dumps(name))
                case _, audio:
                    self.playout.queue(audio)
        self.most_buffered_bytes = max(self.most_buffered_bytes, self.playout.buffered_bytes)
        self._return(self.playout.play(0))
        while self._up and self._up[0][0] <= self.now_ms:
            self.take(mark_back(self.format, self._up.popleft()[1]))

    def _return(self, names: list[str]) -> None:
        for name in names:
            if not self._loses():
                at_ms = self.now_ms + self._up_ms()
                at_ms = max(at_ms, self._up[-1][0] if self._up else 0)
                self._up.append((at_ms, json.loads(name) if name.startswith("{") else name))

    # --- what `check_sink` and `Interruption` ask of a sink

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format."""
        self.sink.start(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Play."""
        self.sink.write(audio, item_id=item_id, content_index=content_index)
        self._pump()

    def flush(self) -> list[PlayedItem]:
        """Fall silent."""
        found = self.sink.flush()
        self._pump()
        return found

    def positions(self) -> list[PlayedItem]:
        """Return what plays."""
        return self.sink.positions()

    @property
    def playing(self) -> bool:
        """Whether something plays."""
        return self.sink.playing

    def _play(self, piece: AudioPiece) -> None:
        self.line.playout.play(piece.audio, piece.item_id, piece.content_index, piece.end_ms)

    def _clear(self) -> None:
        self.line.playout.clear()
