"""The local server's sockets: who connects, and what becomes of it.

The rules
---------
* Each connection is a task of its own. Whatever goes wrong in it is logged and ends it with
  1011; the server and the other connections go on.
* A client has `OPEN_TIMEOUT_S` to shake hands. Sessions are limited; so are connections that
  have not shaken hands yet.
* When the server stops, every session is closed with 1001.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import structlog
from anyio import current_time, move_on_after
from anyio.abc import SocketAttribute

from realtime_bus._tasks import background_tasks
from realtime_bus.transport import MemoryTransport, memory_transport_pair
from realtime_bus.transport._handshake import (
    ConnectionOptions,
    HttpRefusal,
    UpgradeRequest,
    server_connection,
)
from realtime_bus.transport._stream import StreamTransport

from ._admission import Accepted, TurnedAway, admit
from ._bound import BoundServer, ServerStatistics
from ._defaults import SessionKind
from ._frames import to_frame
from ._machine import Machine
from ._options import ServerOptions
from ._responder import Responder, Transcriber, VoiceResponder
from ._served import ServedSession
from ._vad import SileroDetector, SpeechDetector

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from realtime_bus.transport import Transport

__all__ = ["RealtimeServer"]

_log: structlog.stdlib.BoundLogger = structlog.get_logger("realtime_bus.server")

OPEN_TIMEOUT_S = 10.0
GOODBYE_S = 1.0
"""How long a client may take to agree that the server stops."""

MAX_STRANGERS = 100
"""Connections beyond the limit that are still answered, with HTTP 503."""


class RealtimeServer:
    """A server that speaks the Realtime protocol, for tests, demos and work without a key.

    Args:
        responder: Who answers; None is a voice that talks about what it was told.
        options: The knobs.
        detector_factory: Makes what tells speech from silence, one for each session.
        transcriber: Who writes down what was said; None is the responder, if it can.
    """

    def __init__(
        self,
        responder: Responder | None = None,
        *,
        options: ServerOptions | None = None,
        detector_factory: Callable[[], SpeechDetector] = SileroDetector,
        transcriber: Transcriber | None = None,
    ) -> None:
        self._responder = responder if responder is not None else VoiceResponder()
        if transcriber is None and isinstance(self._responder, Transcriber):
            transcriber = self._responder
        self._transcriber = transcriber
        self._options = options or ServerOptions()
        self._detector_factory = detector_factory
        self._open = self._served = self._refused = self._failed = 0

    def statistics(self) -> ServerStatistics:
        """Return what the server has seen so far."""
        return ServerStatistics(
            open=self._open, served=self._served, refused=self._refused, failed=self._failed
        )

    # In front of the socket

    @asynccontextmanager
    async def serve(
        self, host: str = "127.0.0.1", *, port: int = 0
    ) -> AsyncGenerator[BoundServer, None]:
        """Listen as long as the context is open; leaving it ends all sessions.

        Args:
            host: The address to listen at.
            port: The port; 0 takes a free one.

        Raises:
            OSError: The address cannot be listened at.
            MissingExtra: The detector's package is not installed.
        """
        self._detector_factory()  # what is missing is told now, not to the first client
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
        bound_port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # not Django's
        async with listener, background_tasks() as tasks:
            tasks.start_soon(listener.serve, self._welcome)
            yield BoundServer(host, bound_port)

    @asynccontextmanager
    async def connect_memory(
        self, model: str = "local", *, kind: SessionKind = "realtime"
    ) -> AsyncGenerator[MemoryTransport, None]:
        """Open a session without a socket; yields the client's end of it.

        Args:
            model: What the URL would name.
            kind: Conversation, or transcription only.
        """
        ours, theirs = memory_transport_pair()
        accepted = Accepted(kind, model if kind == "realtime" else None)
        async with background_tasks() as tasks:
            tasks.start_soon(self._serve_session, ours, accepted)
            yield theirs

    # Behind it

    async def _welcome(self, stream: ByteStream) -> None:
        """Take one connection from the first byte to the last; raises nothing."""
        if self._open >= self._options.max_connections + MAX_STRANGERS:
            self._refused += 1
            await anyio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            await self._shake_hands(stream)
        except Exception:  # noqa: BLE001  # a fault in one connection stays in it
            self._failed += 1
            _log.exception("connection failed before its session began")
        finally:
            self._open -= 1

    async def _shake_hands(self, stream: ByteStream) -> None:
        verdicts: list[Accepted | TurnedAway] = []

        def judge(request: UpgradeRequest) -> HttpRefusal | None:
            crowded = self._open > self._options.max_connections
            verdict = admit(request, self._options, crowded=crowded)
            if isinstance(verdict, HttpRefusal):
                return verdict
            verdicts.append(verdict)
            return None

        limits = ConnectionOptions(max_frame_bytes=self._options.max_frame_bytes)
        connection = server_connection(
            process_request=judge, subprotocols=["realtime"], options=limits
        )
        transport = StreamTransport(stream, connection)
        opened = False
        with move_on_after(OPEN_TIMEOUT_S):
            opened = await transport.open()
        await self._begin(transport, verdicts if opened else [])

    async def _begin(
        self, transport: StreamTransport, verdicts: list[Accepted | TurnedAway]
    ) -> None:
        """Start the session, or say why there is none."""
        if verdicts and isinstance(accepted := verdicts[0], Accepted):
            await self._serve_session(transport, accepted)
            return
        self._refused += 1
        if verdicts and isinstance(away := verdicts[0], TurnedAway):
            transport.send(to_frame(away.refusal.to_event(None), self._options))
            await transport.aclose(away.close_code, away.reason)
        else:
            await transport.aclose()

    async def _serve_session(self, transport: Transport, accepted: Accepted) -> None:
        """Run a session to its end, whatever it is; raises nothing."""
        self._served += 1
        code, reason = 1001, "the server is stopping"
        try:
            info = await self._session(transport, accepted).run()
            _log.debug("session ended", code=info.code, reason=info.reason)
            code, reason = 1000, ""
        except Exception:  # noqa: BLE001  # a fault in one session stays in it
            self._failed += 1
            _log.exception("session failed")
            code, reason = 1011, "internal error"
        finally:
            with move_on_after(GOODBYE_S, shield=True):
                await transport.aclose(code, reason)

    def _session(self, transport: Transport, accepted: Accepted) -> ServedSession:
        machine = Machine(
            self._options,
            kind=accepted.kind,
            model=accepted.model,
            make_detector=self._detector_factory,
            now_s=current_time(),
            epoch_s=time.time(),
        )
        return ServedSession(
            machine,
            transport,
            options=self._options,
            responder=self._responder,
            transcriber=self._transcriber,
        )
