"""``realtime-bus demo --web``: the browser plugin's page on loopback, and an agent behind it."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from realtime_bus import Bus, RealtimeBusError, Session
from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, VoiceResponder
from realtime_bus_plugins.browser import Browser, BrowserCall, InterruptPressed
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted

_INSTRUCTIONS = "You are on the telephone: answer in a few short sentences, in the caller's words."


class WebOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``realtime-bus demo --web`` was asked for.

    Attributes:
        host: The address to listen on.
        port: The port; 0 for any free one.
        names: By which names others may call the server; none but loopback's if empty.
        open_browser: Whether to open the page.
        url: A real provider, or None for the local server.
        api_key: The key for it.
    """

    host: str = "127.0.0.1"
    port: int = 0
    names: tuple[str, ...] = ()
    open_browser: bool = True
    url: str | None = None
    api_key: str | None = None

    def __repr__(self) -> str:
        return f"WebOptions(host={self.host!r}, port={self.port}, url={self.url!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # rich, of an exception's locals
        return [("host", self.host), ("port", self.port), ("url", self.url)]


async def run_web(options: WebOptions, say: Callable[[str], object]) -> None:
    """Serve the page until it is cancelled.

    Args:
        options: What was asked for.
        say: Takes a line to show.

    Raises:
        MissingExtra: The extra ``browser`` is not installed.
        RealtimeBusError: The address cannot be had.
    """
    bus = Bus()
    _narrate(bus, say)
    async with _provider(options) as (target, settings):

        async def talk(call: BrowserCall) -> None:
            interruption = Interruption(call)

            def pressed(event: InterruptPressed, session: Session) -> None:  # noqa: ARG001 - a handler
                interruption.interrupt(session)

            async with bus.connect(target, plugins=[call, interruption], **settings) as session:
                session.on(InterruptPressed)(pressed)
                session.respond()  # the assistant speaks first
                await session.wait_closed()

        browser = Browser(talk, hosts=options.names)
        try:
            async with browser.serve(options.host, port=options.port) as url:
                say(f"talk at {url} (end with Ctrl-C)")
                if options.open_browser:
                    await anyio.to_thread.run_sync(webbrowser.open, url)
                await anyio.sleep_forever()
        except (OSError, socket.gaierror) as error:
            raise RealtimeBusError(
                f"cannot listen at {options.host}:{options.port}: {error}"
            ) from error


@asynccontextmanager
async def _provider(options: WebOptions) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """Say whom to connect to: a real provider, or a server of our own on loopback."""
    settings: dict[str, Any] = {"turn_detection": ev.ServerVad(silence_duration_ms=500)}
    if options.url is None:
        async with RealtimeServer(VoiceResponder()).serve() as bound:
            yield bound.url_for("gpt-realtime"), settings
        return
    settings["transcription"] = ev.Transcription(model="gpt-4o-mini-transcribe")
    settings["instructions"] = _INSTRUCTIONS
    if options.api_key is not None:
        settings["api_key"] = options.api_key
    yield options.url, settings


def _narrate(bus: Bus, say: Callable[[str], object]) -> None:
    """Tell what happens, in a line each."""

    @bus.on(ev.Connected)
    def connected(event: ev.Connected) -> None:
        say(f"a call has begun: {event.session_id}")

    @bus.on(ev.ConversationItemInputAudioTranscriptionCompleted)
    def person(event: ev.ConversationItemInputAudioTranscriptionCompleted) -> None:
        say(f"you: {event.transcript.strip()}")

    @bus.on(ev.ResponseOutputAudioTranscriptDone)
    def assistant(event: ev.ResponseOutputAudioTranscriptDone) -> None:
        say(f"assistant: {event.transcript}")

    @bus.on(PlaybackInterrupted)
    def interrupted(event: PlaybackInterrupted) -> None:
        say(f"interrupted: silent in {event.latency_s * 1000:.1f} ms")

    @bus.on(ev.ConversationItemTruncated)
    def truncated(event: ev.ConversationItemTruncated) -> None:
        say(f"the model knows that {event.audio_end_ms / 1000:.2f} s were heard")

    @bus.on(ev.Reconnecting)
    def reconnecting(event: ev.Reconnecting) -> None:
        say(f"the connection to the model is lost ({event.reason}); try {event.attempt}")

    @bus.on(ev.Closed)
    def closed(event: ev.Closed) -> None:
        say(f"a call is over: {event.code} {event.reason}".rstrip())
