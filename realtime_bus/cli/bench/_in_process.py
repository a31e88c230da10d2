"""What is measured without a socket: decoding, and dispatch.

Decoding: every row decodes the same frames, one at a time, each into what its library gives its
users; of every audio delta, the audio is there as bytes at the end. Dispatch: from an event in
hand until its handlers have run. All rows run on asyncio with the same events and the same
handler, which counts down; events are dispatched from a callback of the loop, as a socket's are.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, NamedTuple, cast

import anyio
import pybase64

from realtime_bus import Bus, Decoder, HandlerOptions
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport

from ._figures import (
    Figure,
    Progress,
    Section,
    interleaved,
    interleaved_async,
    is_installed,
    no_progress,
)
from ._rows import OPENAI, OURS, SERVER_EVENTS, bare_decoder
from ._work import audio_frames, mixed_frames, varied_frames

_Read = Callable[[bytes], object]


class DecodeRow(NamedTuple):
    """One way to decode.

    Attributes:
        name: What the tables call it.
        rule: What is measured.
        needs: The module without which it is left out.
        make: Return what reads a frame.
    """

    name: str
    rule: str
    needs: str | None
    make: Callable[[], _Read]


def _ours() -> _Read:
    decode = Decoder().decode

    def read(frame: bytes) -> object:
        event = decode(frame)
        return event.delta if type(event) is ev.ResponseOutputAudioDelta else event

    return read


def _bare() -> _Read:
    decode, plain = bare_decoder()
    audio = plain[ev.ResponseOutputAudioDelta]

    def read(frame: bytes) -> object:
        event = decode(frame)
        if type(event) is audio:
            return pybase64.b64decode(memoryview(event.delta)[1:-1], validate=True)
        return event

    return read


def _json() -> _Read:
    def read(frame: bytes) -> object:
        event: dict[str, Any] = json.loads(frame)
        if event["type"] == "response.output_audio.delta":
            return base64.b64decode(event["delta"])
        return event

    return read


def _openai() -> _Read:
    from openai.resources.realtime.realtime import (  # noqa: PLC0415  # a peer
        RealtimeConnection,
    )

    # the parser is a method that uses nothing of its connection
    parse: Callable[[bytes], Any] = partial(
        RealtimeConnection.parse_event, object.__new__(RealtimeConnection)
    )

    def read(frame: bytes) -> object:
        event = parse(frame)
        is_audio = event.type == "response.output_audio.delta"
        return base64.b64decode(event.delta) if is_audio else event

    return read


def decode_rows() -> list[DecodeRow]:
    """Return ours, the floors, and openai-python."""
    bare = "one union of 46 plain structs, strict; audio by pybase64 on the Raw field"
    return [
        DecodeRow(OURS, "Decoder.decode; audio by reading event.delta", None, _ours),
        DecodeRow("floor: bare msgspec", bare, None, _bare),
        DecodeRow("json.loads", "plain dicts; audio by base64.b64decode", None, _json),
        DecodeRow(
            OPENAI,
            "RealtimeConnection.parse_event; audio by base64.b64decode",
            "openai",
            _openai,
        ),
    ]


def decode(
    rows: list[DecodeRow], *, rounds: int, scale: int = 2, progress: Progress = no_progress
) -> Section:
    """Measure the time of a frame."""
    small, audio = varied_frames(128 * scale), audio_frames(50 * scale)
    columns = {"small": small, "audio, read": audio, "mix, read": mixed_frames(small, audio)}
    readers = {row.name: row.make() for row in rows if is_installed(row.needs)}

    def read_all(read: _Read, frames: list[bytes]) -> None:
        for frame in frames:
            read(frame)

    figures: dict[str, dict[str, Figure]] = {}
    for column, frames in columns.items():
        work = {name: partial(read_all, read, frames) for name, read in readers.items()}
        figures[column] = interleaved(work, units=len(frames), rounds=rounds)
        progress()
    return Section(
        "decode",
        "Decode: time of a frame; the same frames, the audio as bytes at the end",
        ("µs", 1e6),
        figures,
        {row.name: row.rule for row in rows},
        OURS,
        {row.name: f"{row.needs} is not installed" for row in rows if row.name not in readers},
    )


_PLAIN = f"{OURS}, plain handlers"
_Dispatch = Callable[[Any], object]
_Classes = Sequence[type[ev.Event]]


class _Word(ev.AppEvent, tag="bench.word"):
    """What is dispatched: nobody but the handlers listens to it."""

    delta: str


_EVENT = _Word(delta=" timer")

DISPATCH_COLUMNS = {"1 handler": (1, 1), "10 handlers": (10, 1), "1 of 46 handlers": (1, 46)}
"""How many handlers each event has, and of how many types there are handlers."""


class Countdown:
    """The handler: it counts down, and tells when nothing is left."""

    def __init__(self) -> None:
        self.left: int = 0
        self.done: asyncio.Event = asyncio.Event()

    def expect(self, count: int) -> None:
        """Start over."""
        self.left = count
        self.done.clear()

    def plain(self) -> Callable[[Any], None]:
        """Return a plain handler, a new one each time."""

        def handle(_event: Any) -> None:
            self.left -= 1
            if not self.left:
                self.done.set()

        return handle

    def awaited(self) -> Callable[[Any], Coroutine[Any, Any, None]]:
        """Return an async handler, a new one each time."""

        async def handle(_event: Any) -> None:
            self.left -= 1
            if not self.left:
                self.done.set()

        return handle


class DispatchRow(NamedTuple):
    """One way to dispatch.

    Attributes:
        name: What the tables call it.
        rule: What is measured.
        needs: The module without which it is left out.
        prepare: Given the stack of contexts, the countdown, the handlers of each event and the
            event classes that have handlers, return what dispatches.
    """

    name: str
    rule: str
    needs: str | None
    prepare: Callable[[AsyncExitStack, Countdown, int, _Classes], Awaitable[_Dispatch]]


def _bus_row(name: str, rule: str, options: HandlerOptions, *, is_async: bool) -> DispatchRow:
    async def prepare(
        stack: AsyncExitStack, countdown: Countdown, count: int, classes: _Classes
    ) -> _Dispatch:
        bus: Any = Bus()
        for cls in classes:
            for _ in range(count):
                handler = countdown.awaited() if is_async else countdown.plain()
                bus.on(cls, **options)(handler)
        transport = PushTransport(send=len)
        session = await stack.enter_async_context(bus.session(transport, wait_created=False))
        return cast("_Dispatch", session.emit)

    return DispatchRow(name, rule, None, prepare)


async def _dict(
    _stack: AsyncExitStack, countdown: Countdown, count: int, classes: _Classes
) -> _Dispatch:
    table: dict[type, list[Callable[[Any], None]]] = {
        cls: [countdown.plain() for _ in range(count)] for cls in classes
    }

    def send(event: object) -> None:
        for handler in table.get(type(event), ()):
            handler(event)

    return send


async def _stream(
    stack: AsyncExitStack, countdown: Countdown, count: int, classes: _Classes
) -> _Dispatch:
    tasks = await stack.enter_async_context(anyio.create_task_group())
    table: dict[type, list[Any]] = {cls: [] for cls in classes}

    async def work(receive: Any, handler: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        async for event in receive:
            await handler(event)

    for cls in classes:
        for _ in range(count):
            send, receive = anyio.create_memory_object_stream[Any](100_000)
            stack.callback(send.close)
            stack.callback(receive.close)
            tasks.start_soon(work, receive, countdown.awaited())
            table[cls].append(send)
    stack.callback(tasks.cancel_scope.cancel)  # the first to be called at the end

    def send_all(event: Any) -> None:
        for stream in table[type(event)]:
            stream.send_nowait(event)

    return send_all


async def _tasks(
    stack: AsyncExitStack, countdown: Countdown, count: int, classes: _Classes
) -> _Dispatch:
    tasks = await stack.enter_async_context(anyio.create_task_group())
    table = {cls: [countdown.awaited() for _ in range(count)] for cls in classes}

    def send(event: Any) -> None:
        for handler in table[type(event)]:
            tasks.start_soon(handler, event)

    return send


def dispatch_rows() -> list[DispatchRow]:
    """Return ours, and the floors that need nothing else."""
    eager: HandlerOptions = {"mode": "eager"}
    parallel: HandlerOptions = {"mode": "parallel"}
    return [
        _bus_row(_PLAIN, "Session.emit; handlers run inline", {}, is_async=False),
        _bus_row(f"{OURS}, eager", "… async handlers, eager", eager, is_async=True),
        _bus_row(f"{OURS}, mailboxes", "Session.emit; async handlers", {}, is_async=True),
        _bus_row(f"{OURS}, parallel", "… in mode parallel", parallel, is_async=True),
        DispatchRow("floor: dict and call", "a dict of lists of functions", None, _dict),
        DispatchRow("anyio stream and task", "a memory stream and task a handler", None, _stream),
        DispatchRow("a task an event", "TaskGroup.start_soon for each handler", None, _tasks),
    ]


def dispatch(
    rows: list[DispatchRow], *, rounds: int, calls: int = 10_000, progress: Progress = no_progress
) -> Section:
    """Measure the time of an event, async rows until the last handler has run."""
    found = [row for row in rows if is_installed(row.needs)]
    figures: dict[str, dict[str, Figure]] = {}
    for name, (count, types) in DISPATCH_COLUMNS.items():
        # anyio's, not asyncio's: it lets the callbacks of the loop know what runs them
        figures[name] = anyio.run(_dispatched, found, count, types, calls // count, rounds)
        progress()
    return Section(
        "dispatch",
        f"Dispatch: from an event in hand until all its handlers have run; {calls} calls at "
        "once, the same handler, which counts down",
        ("µs", 1e6),
        figures,
        {row.name: row.rule for row in rows},
        _PLAIN,
        {row.name: f"{row.needs} is not installed" for row in rows if row not in found},
    )


async def _dispatched(
    rows: list[DispatchRow], count: int, types: int, events: int, rounds: int
) -> dict[str, Figure]:
    classes: list[type[ev.Event]] = [_Word, *list(SERVER_EVENTS)[: types - 1]]
    async with AsyncExitStack() as stack:
        work: dict[str, Callable[[], Awaitable[object]]] = {}
        for row in rows:
            countdown = Countdown()
            send = await row.prepare(stack, countdown, count, classes)
            work[row.name] = _round(send, countdown, events, count)
        return await interleaved_async(work, units=events, rounds=rounds)


def _round(
    send: _Dispatch, countdown: Countdown, events: int, count: int
) -> Callable[[], Awaitable[object]]:
    def send_all() -> None:
        for _ in range(events):
            send(_EVENT)

    async def run() -> None:
        countdown.expect(events * count)
        asyncio.get_running_loop().call_soon(send_all)  # where a socket's events come from
        await countdown.done.wait()

    return run
