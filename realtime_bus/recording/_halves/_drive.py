"""The client's half of a recording, sent to a server: this one's, a later version's, another's.

Rules:

1. Commands go out in the order and at the pace of the recording, behind what they followed then
   (`_halves`). Items, responses and calls are named as the live server names them.
2. While the microphone has to wait, it sends silence: a gap would be no pause to a server that
   counts audio.
3. It is over when all is sent, and the server has answered all that it answered then, or has said
   nothing new for as long as anybody waits here. Then the connection is closed, unless the
   recorded server did that: the live one gets as long to do the same.
4. Each further connection of the recording is opened when the one before has ended.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

import anyio
import anyio.lowlevel
from anyio import create_task_group, current_time, move_on_after

from realtime_bus._secrets import unseen
from realtime_bus.connect import target
from realtime_bus.errors import CloseInfo, TransportClosed, UsageError
from realtime_bus.recording._format import Line
from realtime_bus.recording._reading import Recording
from realtime_bus.transport import Transport
from realtime_bus.transport._transport import OPEN_TIMEOUT_S

from ._connections import RecordedConnection, read_connections
from ._deviations import PlaybackReport
from ._half import LONGEST_ANSWER_S, PATIENCE_S, Half

_SILENCE_MS: Final = 20
_SILENCE_PACE: Final = 10.0  # at most: a server has to hear it all
_BYTES_AT_ONCE: Final = 64 * 1024


@unseen
def drive(
    recording: Recording | str | os.PathLike[str] | Iterable[Line],
    to: str | Callable[[], Awaitable[Transport]],
    *,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    pace: float = 1.0,
    patience_s: float = PATIENCE_S,
) -> Coroutine[Any, Any, list[PlaybackReport]]:
    """Send the client's half of a recording, and tell how the server's answers differ; await it.

    Args:
        recording: The recording, or its file, or its lines.
        to: The server's address, a model's name for OpenAI, or what opens a connection.
        api_key: The key for it; left out, OpenAI gets the environment's.
        headers: More headers for it.
        pace: How many times faster than recorded; infinity as soon as the server is so far.
        patience_s: How long to wait for what the server does not say.

    Returns:
        A report for each connection of the recording.

    Raises:
        RecordingError: The file is no recording.
        ConnectError: There is no connection.
        UsageError: A value is out of range, or there is nothing from a client in the recording.
    """
    if not pace > 0:
        raise UsageError(f"pace must be above 0, not {pace}")
    if not patience_s > 0:
        raise UsageError(f"patience_s must be above 0, not {patience_s}")
    lines = Recording(recording) if isinstance(recording, str | os.PathLike) else recording
    connections = read_connections(lines, "client")
    if not any(f.side == "client" and not f.ends for each in connections for f in each.frames):
        raise UsageError("there is nothing from a client in this recording: nothing to send")
    if isinstance(to, str):
        there = target(to, call_id=None, intent=None, api_key=api_key, headers=headers or {})
        to = there.opener(None, open_timeout_s=OPEN_TIMEOUT_S)
    return _drive(connections, to, pace=pace, patience_s=patience_s)


async def _drive(
    connections: list[RecordedConnection],
    connect: Callable[[], Awaitable[Transport]],
    *,
    pace: float,
    patience_s: float,
) -> list[PlaybackReport]:
    reports: list[PlaybackReport] = []
    for number, connection in enumerate(connections):
        driver = _Driver(connection, await connect(), pace=pace, patience_s=patience_s)
        reports.append(await driver.run(number))
    return reports


class _Driver:
    def __init__(
        self,
        connection: RecordedConnection,
        transport: Transport,
        *,
        pace: float,
        patience_s: float,
    ) -> None:
        self._half = Half(
            connection, "client", now_s=current_time(), pace=pace, patience_s=patience_s
        )
        self._then = connection.close
        self._transport = transport
        self._pace = pace
        self._patience_s = patience_s
        self._heard = anyio.Event()

    async def run(self, number: int) -> PlaybackReport:
        """Drive one connection to its end."""
        ends: list[CloseInfo] = []
        try:
            async with create_task_group() as tasks:
                tasks.start_soon(self._send)
                ends.append(await self._transport.run(self._see))
                tasks.cancel_scope.cancel()
        finally:
            await self._transport.aclose()
        (close,) = ends
        self._half.closed(self._then, close)
        return self._half.report(number, close=close)

    def _see(self, frame: bytes) -> None:
        self._half.see(frame, current_time())
        self._heard.set()

    async def _send(self) -> None:
        half = self._half
        try:
            while not half.finished:
                for frame in half.due(current_time(), max_bytes=_BYTES_AT_ONCE):
                    self._transport.send(frame)
                await self._transport.drain()
                if not half.finished:
                    await self._rest()
            await self._listen()
            await self._transport.aclose()
        except TransportClosed:
            pass  # the reader knows it too, and ends

    async def _rest(self) -> None:
        """Wait for the server or the time; keep a waiting microphone going."""
        now_s = current_time()
        deadline_s = self._half.next_deadline()
        wait_s = float("inf") if deadline_s is None else deadline_s - now_s
        if wait_s <= 0:
            await anyio.lowlevel.checkpoint()
            return
        silence = self._half.silence(_SILENCE_MS)
        if silence is not None:
            wait_s = min(wait_s, _SILENCE_MS / 1000 / min(self._pace, _SILENCE_PACE))
        with move_on_after(wait_s):
            await self._heard.wait()
        if self._heard.is_set():
            self._heard = anyio.Event()
        elif silence is not None:
            self._transport.send(silence)

    async def _listen(self) -> None:
        """Wait for what the server has still to say."""
        with move_on_after(LONGEST_ANSWER_S):
            while self._half.expects_more:
                quiet_s = self._half.matched_s + self._patience_s - current_time()
                if quiet_s <= 0:
                    break
                self._heard = anyio.Event()
                with move_on_after(quiet_s):
                    await self._heard.wait()
        if self._then is not None and not self._half.ended:
            await anyio.sleep(self._patience_s)  # the server is to end it; then we are cancelled
