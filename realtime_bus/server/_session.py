"""One session on its transport: a `SessionProtocol`, and the tasks that drive it.

The rules
---------
* Frames go into the protocol as they come; one task, the pump, ticks it, sends what it says and
  carries out its commands, and rests until something comes or its next deadline is due.
* Each responder and each transcription is a task of the session and ends with it. A responder
  waits while more than some seconds of its answer are unsent. One that raises fails its
  response, and nothing else.
* Other clients may join (a sideband): they see every event, but for the errors of others, and
  what they send is handled like the first one's. They go when the first has gone.
* Bounds: with more than `MAX_UNHANDLED_BYTES` received and not handled, reading pauses. With
  more than ``max_outgoing_bytes`` unsent the protocol is held: it handles and speaks nothing
  until the client has read. A sideband holds nobody: with `LAGGING` times as much it is closed
  with 1008.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import msgspec
from anyio import CancelScope, create_task_group, current_time, to_thread
from msgspec.structs import replace

from realtime_bus import events as ev
from realtime_bus.errors import CloseInfo, TransportClosed, UsageError
from realtime_bus.log import describe, get_logger

from ._fault_transport import FaultyTransport
from ._options import ServerOptions
from ._protocol import SessionProtocol
from ._responders import Output, Responder, Transcriber
from ._wire import (
    CancelResponder,
    Close,
    SendTo,
    StartResponder,
    Transcribe,
    random_id,
    to_frame,
)
from .faults import AnyFault, Refuse, ShortLife

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from realtime_bus.transport import Transport

_log = get_logger("realtime_bus.server")

_CUT = 1006

LAGGING = 4
"""How many times ``max_outgoing_bytes`` may be unsent to a sideband before it is closed."""

MAX_UNHANDLED_BYTES = 4 * 1024 * 1024
"""Above it nothing is read until the protocol has caught up; one frame may be larger."""


class ServerSession:
    """An open session of the local server, and what a test may do to it.

    Attributes:
        call_id: What `BoundServer.url_for_call` takes.
    """

    def __init__(
        self,
        protocol: SessionProtocol,
        transport: FaultyTransport,
        *,
        options: ServerOptions,
        responder: Responder,
        transcriber: Transcriber | None,
    ) -> None:
        self.call_id: str = random_id("rtc")
        self._protocol = protocol
        self._transport = transport
        self._joined: list[Transport] = []
        self._ended = anyio.Event()
        self._options = options
        self._responder = responder
        self._transcriber = transcriber
        self._tasks: TaskGroup
        self._answers: dict[str, CancelScope] = {}
        self._waiting: dict[str, anyio.Event] = {}
        self._wake = anyio.Event()
        self._paused = False
        self._resting: CancelScope | None = None
        self._close: Close | None = None
        self._commands: dict[type, Callable[[Any], object]] = {
            StartResponder: self._start_responder,
            CancelResponder: self._cancel_responder,
            Transcribe: lambda command: self._tasks.start_soon(self._transcribe, command),
            SendTo: lambda command: self._send(to_frame(command.event, options), command.client),
            Close: self._order_close,
        }

    @property
    def session_id(self) -> str:
        """The session's id, as in ``session.created``."""
        return self._protocol.session_id

    # For tests

    def send(self, event: ev.ServerEvent | dict[str, Any] | bytes) -> None:
        """Send an event that the server would not, or not now; plain data and bytes go as they are.

        Raises:
            UsageError: The session has ended.
        """
        if self._ended.is_set():
            raise UsageError(f"session {self.session_id} has ended: nothing can be sent any more")
        self._protocol.send(msgspec.json.encode(event) if isinstance(event, dict) else event)
        self._wake.set()

    def fail(self, message: str = "The server had an error.", *, code: str | None = None) -> None:
        """End the session with an ``error`` of type ``server_error``, and close with 1011."""
        details = ev.ErrorDetails(type="server_error", message=message, code=code)
        self.send(ev.Error(error=details))
        self.close(1011, "server_error")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, once what was said before is sent."""
        self._order_close(Close(code, reason))

    def drop(self) -> None:
        """Cut the connection without a word, as a network does: clients see 1006."""
        self._order_close(Close(_CUT, ""))

    def inject(self, fault: AnyFault) -> None:
        """Have something go wrong with this session; see `faults`. Its ``after_s`` begins now.

        Raises:
            UsageError: The session has ended, or it is a fault of connections yet to come.
        """
        if self._ended.is_set():
            raise UsageError(f"session {self.session_id} has ended: nothing can go wrong any more")
        if isinstance(fault, Refuse | ShortLife):
            raise UsageError(f"a fault of the kind {fault.kind!r} is for the server's `faults`")
        self._transport.inject(fault)

    # For the server

    async def run(self) -> CloseInfo:
        """Serve until the connection has ended; tell how it did."""
        ends: list[CloseInfo] = []
        try:
            async with create_task_group() as self._tasks:
                self._tasks.start_soon(self._pump)
                ends.append(await self._transport.run(partial(self._deliver, self._transport)))
                self._tasks.cancel_scope.cancel()
            if not ends:
                await self._transport.cut()
        finally:
            self._ended.set()
        return ends[0] if ends else CloseInfo(code=_CUT, reason="dropped", clean=False)

    async def join(self, transport: Transport) -> CloseInfo:
        """Serve one more client, until its connection or the session has ended."""
        ends: list[CloseInfo] = []
        self._joined.append(transport)
        self._protocol.greet(transport)
        self._wake.set()
        try:
            async with create_task_group() as tasks:
                tasks.start_soon(self._close_with_session, transport)
                ends.append(await transport.run(partial(self._deliver, transport)))
                tasks.cancel_scope.cancel()
        finally:
            self._joined.remove(transport)
        return ends[0]

    async def _close_with_session(self, transport: Transport) -> None:
        await self._ended.wait()
        close = self._close if self._close and self._close.code != _CUT else Close(1000, "")
        await transport.aclose(close.code, close.reason)

    def _deliver(self, sender: Transport, frame: bytes) -> None:
        self._protocol.receive(frame, sender)
        if self._protocol.unhandled_bytes > MAX_UNHANDLED_BYTES:  # those that joined since, too
            self._paused = True
            for transport in (self._transport, *self._joined):
                transport.pause()
        self._wake.set()

    # The pump

    async def _pump(self) -> None:
        try:
            while (close := self._turn()) is None:
                await self._rest()
        except TransportClosed:
            return  # the reader knows it too, and ends the session
        if close.code == _CUT:
            self._tasks.cancel_scope.cancel()
        else:
            await self._transport.aclose(close.code, close.reason)

    def _turn(self) -> Close | None:
        """Let the protocol do what is due, and do what it says; return its order to close."""
        self._part_with_laggards()
        self._protocol.held = self._transport.buffered_bytes > self._options.max_outgoing_bytes
        self._protocol.tick(current_time())
        for outgoing in self._protocol.drain():
            if isinstance(outgoing, ev.ServerEvent):
                self._send(to_frame(outgoing, self._options))
            elif isinstance(outgoing, bytes):
                self._send(outgoing)
            else:
                self._commands[type(outgoing)](outgoing)
        if self._paused and self._protocol.unhandled_bytes <= MAX_UNHANDLED_BYTES // 2:
            self._paused = False
            for transport in (self._transport, *self._joined):
                transport.resume()
        for response_id, may_go_on in self._waiting.items():
            if self._protocol.responder_may_go_on(response_id):
                may_go_on.set()
        return self._close

    def _send(self, frame: bytes, client: object = None) -> None:
        if client in (None, self._transport):
            self._transport.send(frame)
        for transport in self._joined:
            if client in (None, transport):
                with suppress(TransportClosed):  # its own reader knows it too
                    transport.send(frame)

    def _part_with_laggards(self) -> None:
        """Close sidebands that do not read: nobody waits for them, as for the first client."""
        for transport in self._joined:
            if transport.buffered_bytes > LAGGING * self._options.max_outgoing_bytes:
                self._tasks.start_soon(transport.aclose, 1008, "you do not read")

    async def _rest(self) -> None:
        """Wait for something to come in, or for the protocol's next deadline."""
        deadline_s = self._protocol.next_deadline()
        wait_s = None if deadline_s is None else deadline_s - current_time()
        if wait_s is not None and wait_s <= 0:
            await anyio.lowlevel.checkpoint()  # others first: a busy session must not stop the rest
            return
        with anyio.move_on_after(wait_s) as self._resting:
            if self._protocol.held:  # until the client has read what was sent
                await self._transport.drain()
                await anyio.lowlevel.checkpoint()  # others run, even where drain need not wait
            else:
                await self._wake.wait()
        if self._wake.is_set():
            self._wake = anyio.Event()

    def _order_close(self, close: Close) -> None:
        self._close = close
        self._wake.set()
        if self._resting is not None:  # who is to go does not wait for a client to read, either
            self._resting.cancel()

    # Responders

    def _start_responder(self, command: StartResponder) -> None:
        self._answers[command.response_id] = CancelScope()
        self._tasks.start_soon(self._answer, command)

    def _cancel_responder(self, command: CancelResponder) -> None:
        if (scope := self._answers.get(command.response_id)) is not None:
            scope.cancel()

    async def _answer(self, command: StartResponder) -> None:
        response_id = command.response_id
        try:
            with self._answers[response_id]:
                request = command.request
                if command.encoded is not None:
                    pcm = await to_thread.run_sync(command.encoded.pcm)
                    request = replace(request, last_user_audio=pcm)
                async with aclosing(_closable(self._responder.respond(request))) as outputs:
                    async for output in outputs:
                        self._protocol.responder_made(response_id, output)
                        self._wake.set()
                        await self._room_for_more(response_id)
                self._protocol.responder_finished(response_id)
        except Exception as error:  # noqa: BLE001  # a responder is anybody's code
            _log.error("responder failed", response_id=response_id, **describe(error))
            message = f"The responder failed: {type(error).__name__}."
            self._protocol.responder_failed(response_id, message)
        finally:
            del self._answers[response_id]
        self._wake.set()

    async def _room_for_more(self, response_id: str) -> None:
        while not self._protocol.responder_may_go_on(response_id):
            self._waiting[response_id] = anyio.Event()
            try:
                await self._waiting[response_id].wait()
            finally:
                del self._waiting[response_id]

    # Transcription

    async def _transcribe(self, command: Transcribe) -> None:
        words: str | None = None
        try:
            if self._transcriber is not None:
                write_down = partial(_write_down, self._transcriber, command)
                words = await to_thread.run_sync(write_down)
        except Exception as error:  # noqa: BLE001  # anybody's code again
            _log.error("transcriber failed", item_id=command.item_id, **describe(error))
        self._protocol.transcribed(command.item_id, words)
        self._wake.set()


def _write_down(transcriber: Transcriber, command: Transcribe) -> str | None:
    return transcriber.transcript(command.turn_index, command.encoded.pcm())


async def _closable(answer: AsyncIterator[Output]) -> AsyncGenerator[Output, None]:
    """Wrap what may be any async iterator into a generator, which can be closed."""
    try:
        async for output in answer:
            yield output
    finally:
        close = getattr(answer, "aclose", None)
        if close is not None:
            await close()
