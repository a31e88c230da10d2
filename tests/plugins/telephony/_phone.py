"""The provider's side of a call: what it plays to the ear, and how it speaks over a socket.

`Playout` is the provider's buffer, without I/O or time of its own: it is told how much time has
passed. `Phone` holds one over a real socket, at real-time pace.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pybase64
from anyio.abc import ByteStream
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

STREAM_SID = "MZ18ad3ab5a668481ce02b83e7395059f0"
CALL_SID = "CA5a1ebd8dcc0ff4c2a2ea3fcbbdf3a1c4"
FRAME_S = 0.02
QUIET = b"\xff" * 160


def connected() -> dict[str, Any]:
    """Return Twilio's first message, as its documentation shows it."""
    return {"event": "connected", "protocol": "Call", "version": "1.0.0"}


def started(**parameters: str) -> dict[str, Any]:
    """Return Twilio's second message, as its documentation shows it."""
    return {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": "AC00000000000000000000000000000000",
            "streamSid": STREAM_SID,
            "callSid": CALL_SID,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        },
        "streamSid": STREAM_SID,
    }


def media(audio: bytes, chunk: int, track: str = "inbound") -> dict[str, Any]:
    """Return Twilio's message with the caller's audio."""
    return {
        "event": "media",
        "sequenceNumber": str(chunk + 1),
        "media": {
            "track": track,
            "chunk": str(chunk),
            "timestamp": str(chunk * 20),
            "payload": pybase64.b64encode_as_string(audio),
        },
        "streamSid": STREAM_SID,
    }


def mark(name: str) -> dict[str, Any]:
    """Return Twilio's message of a mark that was reached."""
    return {
        "event": "mark",
        "sequenceNumber": "4",
        "streamSid": STREAM_SID,
        "mark": {"name": name},
    }


def dtmf(digit: str) -> dict[str, Any]:
    """Return Twilio's message of a key."""
    return {
        "event": "dtmf",
        "streamSid": STREAM_SID,
        "sequenceNumber": "5",
        "dtmf": {"track": "inbound_track", "digit": digit},
    }


def stopped() -> dict[str, Any]:
    """Return Twilio's last message."""
    return {
        "event": "stop",
        "sequenceNumber": "5",
        "stop": {"accountSid": "AC00000000000000000000000000000000", "callSid": CALL_SID},
        "streamSid": STREAM_SID,
    }


class Playout:
    """What a provider buffers and plays: audio and marks in order, at the pace of time.

    Args:
        bytes_per_ms: Of the line's encoding.
        counted: How many bytes of what is played count; all, if nothing is said.

    Attributes:
        heard: What was played to the ear.
        buffered_bytes: What is still to be played.
        since_clear: How many bytes of it since the last clear.
        clears: `since_clear` at each clear.
    """

    def __init__(self, bytes_per_ms: int = 8, counted: Callable[[bytes], int] = len) -> None:
        self.heard = bytearray()
        self.buffered_bytes = 0
        self.since_clear = 0
        self.clears: list[int] = []
        self._per_ms = bytes_per_ms
        self._counted = counted
        self._queue: deque[bytes | str] = deque()

    def queue(self, audio_or_mark: bytes | str) -> None:
        """Take audio, or a mark."""
        self._queue.append(audio_or_mark)
        if isinstance(audio_or_mark, bytes):
            self.buffered_bytes += len(audio_or_mark)

    def play(self, duration_ms: float) -> list[str]:
        """Let so much time pass; return the marks that were reached, in order."""
        room = round(duration_ms * self._per_ms)
        reached: list[str] = []
        while self._queue and (room or isinstance(self._queue[0], str)):
            first = self._queue.popleft()
            if isinstance(first, str):
                reached.append(first)
                continue
            self.heard += first[:room]
            self.buffered_bytes -= len(first[:room])
            self.since_clear += self._counted(first[:room])
            if first[room:]:
                self._queue.appendleft(first[room:])
            room -= len(first[:room])
        return reached

    @property
    def next_mark_ms(self) -> float:
        """After how much playing the next mark is reached; a second, if there is none."""
        before = 0
        for each in self._queue:
            if isinstance(each, str):
                return (before + 0.5) / self._per_ms
            before += len(each)
        return 1000

    def clear(self) -> list[str]:
        """Fall silent; return the marks that come back although they were not reached."""
        marks = [each for each in self._queue if isinstance(each, str)]
        self._queue.clear()
        self.buffered_bytes = 0
        self.clears.append(self.since_clear)
        self.since_clear = 0
        return marks


class Socket:
    """A WebSocket client on both backends, for text and binary messages."""

    def __init__(self, stream: ByteStream, url: str) -> None:
        self._stream = stream
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._lock = anyio.Lock()
        self._events: deque[Any] = deque()
        self.close_code: int | None = None

    async def open(self) -> None:
        """Shake hands."""
        self._protocol.send_request(self._protocol.connect())
        await self._flush()
        answer = await self._event()
        assert isinstance(answer, Response)
        assert answer.status_code == 101, answer.body

    async def send(self, message: str | bytes) -> None:
        """Send a message; nothing, once the other side has closed."""
        if self._protocol.state is not State.OPEN:
            return
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        await self._flush()

    async def receive(self) -> str | bytes | None:
        """Return the next message; None when the connection has been closed."""
        while (frame := await self._event()) is not None:
            if frame.opcode is Opcode.TEXT:
                return bytes(frame.data).decode()
            if frame.opcode is Opcode.BINARY:
                return bytes(frame.data)
            if frame.opcode is Opcode.CLOSE:
                self.close_code = self._protocol.close_rcvd and self._protocol.close_rcvd.code
                return None
        return None

    async def close(self) -> None:
        """Say goodbye."""
        self._protocol.send_close(1000)
        await self._flush()

    async def _event(self) -> Any:
        while not self._events:
            try:
                self._protocol.receive_data(await self._stream.receive())
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return None
            await self._flush()
            self._events.extend(self._protocol.events_received())
        return self._events.popleft()

    async def _flush(self) -> None:
        async with self._lock:
            for data in self._protocol.data_to_send():
                if data:
                    try:
                        await self._stream.send(data)
                    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                        return


class Phone:
    """A caller on Twilio's line, at real-time pace.

    Args:
        socket: To the application.
        mark_delay_s: How late each mark comes back, one after the other.

    Attributes:
        playout: What the caller hears.
        closed: Set when the application has hung up.
    """

    def __init__(self, socket: Socket, mark_delay_s: Callable[[], float] = lambda: 0.0) -> None:
        self.playout = Playout()
        self.closed = anyio.Event()
        self.socket = socket
        self._speech: deque[bytes] = deque()
        self._chunk = 0
        self._played_s = 0.0
        self._delay_s = mark_delay_s
        self._marks: deque[tuple[float, str]] = deque()
        self._changed = anyio.Event()
        self.messages: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message of the provider."""
        await self.socket.send(json.dumps(message))

    def say(self, audio: bytes) -> None:
        """Say something, behind what is being said: µ-law."""
        self._speech.extend(audio[start : start + 160] for start in range(0, len(audio), 160))

    async def run(self, **parameters: str) -> None:
        """Hold the call until the application hangs up."""
        await self.send(connected())
        await self.send(started(**parameters))
        self._played_s = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._receive)
            tasks.start_soon(self._speak)
            tasks.start_soon(self._listen)
            await self.closed.wait()
            tasks.cancel_scope.cancel()

    async def _speak(self) -> None:
        due_s = anyio.current_time()
        while True:
            self._chunk += 1
            audio = self._speech.popleft() if self._speech else QUIET
            await self.send(media(audio.ljust(160, b"\xff"), self._chunk))
            due_s += FRAME_S
            await anyio.sleep(max(0, due_s - anyio.current_time()))

    async def _listen(self) -> None:
        while True:
            self._play()
            while self._marks and self._marks[0][0] <= anyio.current_time():
                await self.send(mark(self._marks.popleft()[1]))
                self._play()
            next_s = self._marks[0][0] - anyio.current_time() if self._marks else 1.0
            self._changed = anyio.Event()
            with anyio.move_on_after(min(next_s, self.playout.next_mark_ms / 1000)):
                await self._changed.wait()

    def _play(self) -> None:
        """Play what time has come for."""
        now_s = anyio.current_time()
        duration_ms, self._played_s = 1000 * (now_s - self._played_s), now_s
        self._return(self.playout.play(duration_ms))

    def _return(self, marks: Iterable[str]) -> None:
        self._marks.extend((anyio.current_time() + self._delay_s(), name) for name in marks)

    async def _receive(self) -> None:
        while (message := await self.socket.receive()) is not None:
            content = json.loads(message)
            self.messages.append(content)
            self._play()
            match content["event"]:
                case "media":
                    self.playout.queue(pybase64.b64decode(content["media"]["payload"]))
                case "mark":
                    self.playout.queue(content["mark"]["name"])
                case "clear":
                    self._return(self.playout.clear())
                case unknown:
                    raise AssertionError(unknown)
            self._changed.set()
        self.closed.set()


@asynccontextmanager
async def dialled(url: str, **options: Any) -> AsyncGenerator[Phone]:
    """Connect a phone to an application."""
    uri = parse_uri(url)
    async with await anyio.connect_tcp(uri.host, uri.port) as stream:
        socket = Socket(stream, url)
        await socket.open()
        yield Phone(socket, **options)
