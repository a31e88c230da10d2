"""The local server's sockets: who connects, and what becomes of it.

The rules
---------
* Each connection is a task of its own. Whatever goes wrong in it is logged and ends it with
  1011; the server and the other connections go on.
* A client has `OPEN_TIMEOUT_S` to shake hands, TLS included. Sessions are limited; so are
  connections that have none (`_guests`, which also says how all leave when the server stops).
* Nothing that a client sends before its session goes into the log: there may be a key in it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import anyio
import msgspec
from anyio import CancelScope, current_time, move_on_after
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSStream
from msgspec.structs import replace

from realtime_bus.errors import CloseInfo
from realtime_bus.log import describe, get_logger
from realtime_bus.transport import MemoryTransport, memory_transport_pair
from realtime_bus.transport._handshake import (
    ConnectionOptions,
    HttpRefusal,
    UpgradeRequest,
    server_connection,
)
from realtime_bus.transport._stream import StreamTransport

from ._admission import (
    PATH,
    TRANSLATIONS_PATH,
    Accepted,
    Joining,
    TurnedAway,
    Verdict,
    admit,
    http_refusal,
)
from ._fault_transport import ConnectionFaults, FaultRun, FaultyTransport
from ._guests import Guest, Guests
from ._options import ServerOptions
from ._playback import Playback
from ._protocol import RealtimeProtocol, SessionProtocol
from ._responders import Responder, Transcriber, VoiceResponder
from ._script import responder_named
from ._session import ServerSession
from ._tls import SelfSigned, self_signed, ssl_context_of
from ._translation import TranslationProtocol
from ._vad import SileroDetector, SpeechDetector
from ._wire import random_id, to_frame
from .faults import FaultFired, FaultPlan

if TYPE_CHECKING:
    from anyio.abc import ByteStream

_log = get_logger("realtime_bus.server")

OPEN_TIMEOUT_S = 10.0
LAST_WORDS_S = 1.0
"""How long a client may take to agree that its session has failed, or has been cut."""


class BoundServer(msgspec.Struct, frozen=True):
    """A server that listens.

    Attributes:
        host: Where.
        port: At which port.
        secure: Whether it speaks TLS.
        ca_file: What clients are to trust, if the certificate is one for development.
    """

    host: str
    port: int
    secure: bool = False
    ca_file: Path | None = None

    @property
    def url(self) -> str:
        """The address for clients, such as ``ws://127.0.0.1:8765/v1/realtime``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.secure else 'ws'}://{host}:{self.port}{PATH}"

    def url_for(self, model: str, *, translation: bool = False) -> str:
        """Return the address with a model in it, of a conversation or of a translation."""
        path = TRANSLATIONS_PATH if translation else PATH
        return f"{self.url.removesuffix(PATH)}{path}?model={quote(model)}"

    def url_for_call(self, call_id: str) -> str:
        """Return the address that joins a running session; see `ServerSession.call_id`."""
        return f"{self.url}?call_id={quote(call_id)}"


class ServerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a server has seen.

    Attributes:
        open: Connections now, those without a session among them.
        served: Sessions that were opened, those that have ended included.
        refused: Connections that got no session.
        failed: Sessions that a fault of the server has ended.
        faults: Faults that have fired as they were ordered.
    """

    open: int
    served: int
    refused: int
    failed: int
    faults: int


class RealtimeServer:
    """A server that speaks the Realtime protocol, for tests, demos and work without a key.

    Args:
        responder: Who answers; None is a voice that talks about what it was told.
        options: The knobs.
        detector_factory: Makes what tells speech from silence, one for each session.
        transcriber: Who writes down what was said; None is the responder, if it can.
        faults: What goes wrong; None: nothing that was ordered.
        playback: A recording that is played to each client, in place of a conversation.
    """

    def __init__(
        self,
        responder: Responder | None = None,
        *,
        options: ServerOptions | None = None,
        detector_factory: Callable[[], SpeechDetector] = SileroDetector,
        transcriber: Transcriber | None = None,
        faults: FaultPlan | None = None,
        playback: Playback | None = None,
    ) -> None:
        self._playback = playback
        self._responder = responder if responder is not None else VoiceResponder()
        if transcriber is None and isinstance(self._responder, Transcriber):
            transcriber = self._responder
        self._transcriber = transcriber
        self._options = options or ServerOptions()
        self._detector_factory = detector_factory
        self._faults = FaultRun(faults or FaultPlan())
        self._sessions: dict[str, ServerSession] = {}
        self._open = self._admitted = self._served = self._refused = self._failed = 0

    @property
    def sessions(self) -> tuple[ServerSession, ...]:
        """The open sessions, the oldest first."""
        return tuple(self._sessions.values())

    def statistics(self) -> ServerStatistics:
        """Return what the server has seen so far."""
        return ServerStatistics(
            open=self._open,
            served=self._served,
            refused=self._refused,
            failed=self._failed,
            faults=self._faults.count,
        )

    @property
    def faults_fired(self) -> tuple[FaultFired, ...]:
        """The ordered faults that have happened, the oldest first: the last 10 000."""
        return tuple(self._faults.fired)

    # In front of the socket

    @asynccontextmanager
    async def serve(
        self,
        host: str = "127.0.0.1",
        *,
        port: int = 0,
        tls: ssl.SSLContext | SelfSigned | None = None,
    ) -> AsyncGenerator[BoundServer, None]:
        """Listen as long as the context is open; leaving it ends all sessions.

        Args:
            host: The address to listen at.
            port: The port; 0 takes a free one.
            tls: Speak ``wss`` with this; see `self_signed`.

        Raises:
            OSError: The address cannot be listened at.
            MissingExtra: The detector's package is not installed.
        """
        self._detector_factory()  # what is missing is told now, not to the first client
        ca_file = tls.ca_file if isinstance(tls, SelfSigned) else None
        ssl_context = tls.ssl_context if isinstance(tls, SelfSigned) else tls
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
        bound_port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # not Django's
        guests = Guests()
        welcome = partial(self._welcome, guests=guests, host=host, ssl_context=ssl_context)
        async with listener, guests.open() as tasks:
            for each in listener.listeners:
                tasks.start_soon(guests.listen, each, welcome, tasks)
            yield BoundServer(host, bound_port, tls is not None, ca_file)

    @asynccontextmanager
    async def connect_memory(
        self,
        model: str = "local",
        *,
        kind: Literal["realtime", "transcription", "translation"] = "realtime",
    ) -> AsyncGenerator[MemoryTransport, None]:
        """Open a session without a socket; yields the client's end of it.

        Args:
            model: What the URL would name.
            kind: Conversation, transcription only, or translation.

        Raises:
            AuthenticationError: A fault refuses it with HTTP 401 or 403.
            UpgradeRefused: A fault refuses it otherwise.
        """
        faults = self._faults.begin()
        if faults.status is not None:
            self._refused += 1
        faults.raise_refusal()
        ours, theirs = memory_transport_pair()
        model_asked = None if kind == "transcription" else model
        accepted = Accepted(kind, model_asked, faults.life_s)
        guests = Guests()
        async with guests.open() as tasks:
            tasks.start_soon(self._serve_in_memory, faults.on(ours), accepted, guests)
            yield theirs

    # Behind it

    async def _serve_in_memory(
        self, transport: FaultyTransport, accepted: Accepted, guests: Guests
    ) -> None:
        with guests.arriving() as guest:
            guest.admit()
            await self._serve_session(transport, accepted, guests)

    async def _welcome(
        self, stream: ByteStream, *, guests: Guests, host: str, ssl_context: ssl.SSLContext | None
    ) -> None:
        """Take one connection from the first byte to the last; raises nothing."""
        self._open += 1
        served = False
        try:
            with guests.arriving() as guest:
                served = await self._shake_hands(stream, guests, guest, host, ssl_context)
        except Exception as error:  # noqa: BLE001  # a fault in one connection stays in it
            self._failed += 1
            _log.error("connection failed before its session began", **describe(error))
        finally:
            self._open -= 1
            self._refused += not served
            with CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)

    async def _shake_hands(
        self,
        stream: ByteStream,
        guests: Guests,
        guest: Guest,
        host: str,
        ssl_context: ssl.SSLContext | None,
    ) -> bool:
        """Let a client in and serve it, or tell it why not; return whether it had a session."""
        verdicts: list[Accepted | Joining | TurnedAway] = []
        faults: list[ConnectionFaults] = []

        def judge(request: UpgradeRequest) -> HttpRefusal | None:
            faults.append(self._faults.begin())
            if (status := faults[0].status) is not None:
                return http_refusal(status, "fault", "The server was told to refuse this.")
            verdict = self._verdict(request, host)
            if isinstance(verdict, HttpRefusal):
                return verdict
            if not isinstance(verdict, TurnedAway):
                self._admitted += 1
                guest.admit()
            verdicts.append(verdict)
            return None

        settings = ConnectionOptions(max_frame_bytes=self._options.max_frame_bytes)
        connection = server_connection(
            process_request=judge, subprotocols=["realtime"], options=settings
        )
        transport, opened = StreamTransport(stream, connection), False
        try:
            try:
                with move_on_after(OPEN_TIMEOUT_S):
                    if ssl_context is not None:
                        secured = await TLSStream.wrap(
                            stream,
                            server_side=True,
                            ssl_context=ssl_context,
                            standard_compatible=False,
                        )
                        transport = StreamTransport(secured, connection)
                    opened = await transport.open()
            except (ssl.SSLError, OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
                _log.debug("TLS handshake failed", error=str(error))
            verdict = verdicts[0] if opened and verdicts else None
            if isinstance(verdict, Accepted):
                verdict = replace(verdict, life_s=faults[0].life_s)
            if isinstance(verdict, Accepted | Joining):
                await self._serve_session(faults[0].on(transport), verdict, guests)
                return True
            if verdict is None:
                await transport.aclose()
            else:
                told = replace(verdict.refusal.to_event(None), event_id=random_id("event"))
                transport.send(to_frame(told, self._options))
                await transport.aclose(verdict.close_code, verdict.reason)
            return False
        finally:
            self._admitted -= bool(verdicts) and not isinstance(verdicts[0], TurnedAway)

    def _verdict(self, request: UpgradeRequest, host: str) -> Verdict:
        crowded = self._admitted >= self._options.max_connections
        try:
            return admit(request, self._options, host=host, calls=self._sessions, crowded=crowded)
        except Exception as error:  # noqa: BLE001  # a fault of ours: the client is told, at least
            self._failed += 1
            _log.error("a request could not be judged", error=type(error).__name__)
            return http_refusal(500, "server_error", "The server is at fault.")

    async def _serve_session(
        self, transport: FaultyTransport, accepted: Accepted | Joining, guests: Guests
    ) -> None:
        """Run a session to its end, whatever it is; raises nothing."""
        code, reason = 1001, "the server is stopping"
        try:
            info = await self._run_session(transport, accepted, guests)
            _log.debug("session ended", code=info.code, reason=info.reason)
            code, reason = 1000, ""
        except Exception as error:  # noqa: BLE001  # a fault in one session stays in it
            self._failed += 1
            _log.error("session failed", **describe(error))
            code, reason = 1011, "internal error"
        finally:
            with move_on_after(LAST_WORDS_S, shield=True):
                await transport.aclose(code, reason)

    async def _run_session(
        self, transport: FaultyTransport, accepted: Accepted | Joining, guests: Guests
    ) -> CloseInfo:
        if isinstance(accepted, Joining):
            running = self._sessions.get(accepted.call_id)
            if running is not None:
                return await running.join(transport)
            return CloseInfo(code=1001, reason="the session has ended", clean=True)
        self._served += 1
        session = ServerSession(
            self._protocol(accepted),
            transport,
            options=self._options,
            responder=self._responder,
            transcriber=self._transcriber,
        )
        self._sessions[session.call_id] = session
        try:
            with guests.staying(session):
                return await session.run()
        finally:
            del self._sessions[session.call_id]

    def _protocol(self, accepted: Accepted) -> SessionProtocol:
        options = self._options
        if accepted.life_s is not None:
            options = replace(options, session_life_s=accepted.life_s)
        if self._playback is not None:
            return self._playback.begin(options, now_s=current_time(), epoch_s=time.time())
        if accepted.kind == "translation":
            return TranslationProtocol(
                options,
                model=accepted.model,
                make_detector=self._detector_factory,
                now_s=current_time(),
                epoch_s=time.time(),
            )
        return RealtimeProtocol(
            options,
            kind=accepted.kind,
            model=accepted.model,
            make_detector=self._detector_factory,
            now_s=current_time(),
            epoch_s=time.time(),
        )


async def serve_forever(  # noqa: PLR0913  # each is an option of the command
    host: str = "127.0.0.1",
    port: int = 8765,
    responder_name: str = "voice",
    *,
    script: str | Path | None = None,
    recording: str | Path | None = None,
    recording_pace: float = 1.0,
    playback: Playback | None = None,
    options: ServerOptions | None = None,
    faults: FaultPlan | None = None,
    certfile: str | Path | None = None,
    keyfile: str | Path | None = None,
    self_signed_in: str | Path | None = None,
    on_ready: Callable[[BoundServer], None] | None = None,
) -> None:
    """Serve until cancelled.

    Args:
        host: The address to listen at.
        port: The port; 0 takes a free one.
        responder_name: Who answers: ``"voice"``, ``"echo"``, ``"script"`` or ``"recording"``.
        script: The file of turns, for ``"script"``.
        recording: The recorded session, for ``"recording"``.
        recording_pace: How many times faster than recorded its answers come.
        playback: A recording that is played frame by frame, whoever would answer.
        options: The server's knobs.
        faults: What goes wrong.
        certfile: Speak ``wss`` with this certificate (PEM).
        keyfile: Its key, if it is not in the same file.
        self_signed_in: Speak ``wss`` with a certificate for development, made in this folder if
            there is none; see `self_signed`.
        on_ready: Called once it listens, with where.

    Raises:
        OSError: The address cannot be listened at.
        UsageError: There is no such responder, or a key without a certificate.
        MissingExtra: There is no certificate yet, and trustme is not installed.
    """
    responder = responder_named(
        responder_name, script=script, recording=recording, recording_pace=recording_pace
    )
    tls: ssl.SSLContext | SelfSigned | None = None
    if self_signed_in is not None:
        tls = self_signed(self_signed_in, host)
    elif certfile is not None or keyfile is not None:
        tls = ssl_context_of(certfile, keyfile)
    server = RealtimeServer(responder, options=options, faults=faults, playback=playback)
    async with server.serve(host, port=port, tls=tls) as bound:
        if on_ready is not None:
            on_ready(bound)
        await anyio.sleep_forever()
