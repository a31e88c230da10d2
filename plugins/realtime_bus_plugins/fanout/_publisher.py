"""Sends what is in the buffer, and reads what the broker says to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import anyio
import anyio.lowlevel

from realtime_bus.log import Repeats, get_logger

from ._broker import Broker
from ._buffer import Buffer, Message
from ._nats import Client, broker_errors, close_client, retrying, size_bytes
from ._wire import KEY

_BATCH: Final = 64  # messages between two turns of the event loop
_LOOK_S: Final = 0.25
_ANSWER_S: Final = 5.0  # what has no answer for so long is lost, and all of the flight in doubt
_NEVER: Final = frozenset({10054, 10060})  # too large a message; a wrong expected stream


class Publisher:
    """The way of messages to the stream.

    Args:
        broker: Open while `run` runs.
        buffer: What is sent.
        refused: Told of what the broker will never take, and why.

    Attributes:
        rejected: How many those were.
    """

    def __init__(
        self, broker: Broker, buffer: Buffer, *, refused: Callable[[Message, str], object]
    ) -> None:
        self.rejected: int = 0
        self._broker = broker
        self._buffer = buffer
        self._refused = refused
        self._wakeup = anyio.Event()
        self._emptied = anyio.Event()
        self._doubt = False
        self._client: Client | None = None
        self._pause_s = 0.0
        self._log = get_logger().bind(app=broker.names.app)
        self._repeats = Repeats()

    def wake(self) -> None:
        """Say that there is something to do."""
        if not self._wakeup.is_set():
            self._wakeup.set()

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now."""
        return self._client is not None and self._client.is_connected

    async def run(self) -> None:
        """Publish until cancelled, over one connection after the other."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_answers)
            while True:
                gone = anyio.Event()
                client = await self._dial(gone)
                try:
                    await self._publish_over(client, gone)
                finally:
                    self._client = None
                    await close_client(client)

    async def _dial(self, gone: anyio.Event) -> Client:
        async def lost() -> None:
            gone.set()
            self.wake()

        return await retrying(lambda: self._broker.dial(lost), pause_s=0.05)

    async def _publish_over(self, client: Client, gone: anyio.Event) -> None:
        inbox = client.new_inbox()
        try:
            await client.subscribe(f"{inbox}.*", cb=self._on_answer)
        except broker_errors():
            return
        self._client, self._doubt = client, True
        while client.is_connected and not gone.is_set():
            self._wakeup = anyio.Event()
            if self._doubt:
                self._doubt = False
                self._buffer.rewind()
                with anyio.move_on_after(self._pause_s):
                    await gone.wait()
            try:
                await self._send_what_may_be_sent(client, inbox)
            except broker_errors():
                return
            if not len(self._buffer):
                self._emptied.set()
                self._emptied = anyio.Event()
            if not (self._doubt or gone.is_set()):
                with anyio.move_on_after(_LOOK_S):  # nats-py may end without a word
                    await self._wakeup.wait()

    async def _send_what_may_be_sent(self, client: Client, inbox: str) -> None:
        buffer, sent = self._buffer, 0
        while buffer.sendable and client.is_connected and not self._doubt:
            token, message = buffer.take()
            headers = {**message.headers, KEY: message.key}
            if size_bytes(message.payload, headers) > client.max_payload:
                buffer.reject(token)
                self._reject(message, "it is larger than the broker's max_payload")
                continue
            await client.publish(
                message.subject, message.payload, reply=f"{inbox}.{token}", headers=headers
            )
            sent += 1
            if sent % _BATCH == 0:
                await anyio.lowlevel.checkpoint()

    def _reject(self, message: Message, why: str) -> None:
        self.rejected += 1
        suppressed = self._repeats.due("rejected", why)
        if suppressed is not None:
            self._log.error(
                "the broker will not take an event", subject=message.subject, why=why, **suppressed
            )
        self._refused(message, why)

    async def _on_answer(self, answer: Any) -> None:
        """Read one answer of the stream: nearly always that it has the message."""
        token = int(answer.subject.rsplit(".", 1)[1])
        data: bytes = answer.data
        if data.startswith(b'{"stream"') and b'"error"' not in data:
            self._buffer.acknowledge(token)
            self._pause_s = 0.0
        else:
            self._on_error(token, data)
        self.wake()

    def _on_error(self, token: int, data: bytes) -> None:
        error: dict[str, Any] = {}
        with suppress(ValueError, AttributeError):
            error = json.loads(data).get("error", {}) if data else {}
        if error.get("err_code") in _NEVER:
            message = self._buffer.reject(token)
            if message is not None:
                self._reject(message, str(error.get("description")))
            return
        suppressed = self._repeats.due("stream", str(error.get("err_code")))
        if suppressed is not None:
            self._log.warning(
                "the stream does not take events now",
                error=error.get("description") or "it is not there",
                **suppressed,
            )
        self._doubt = True
        self._pause_s = min(max(self._pause_s * 2, 0.05), 2.0)

    async def _watch_answers(self) -> None:
        while True:
            oldest = self._buffer.oldest_in_flight
            await anyio.sleep(_ANSWER_S)
            if oldest and self._buffer.oldest_in_flight == oldest and self.connected:
                self._doubt = True
                self.wake()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until the broker has everything; False if that took too long."""
        with anyio.move_on_after(timeout_s):
            while len(self._buffer):
                await self._emptied.wait()
        return not len(self._buffer)
