"""``realtime-bus demo``: real speech, a real socket, a real detector, and an interruption.

The parts: `_conversation` what is said and by whom, `_record` what happened, `_judge` whether it
should have, `_view` how it looks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import msgspec
from rich.console import Console

from realtime_bus import Bus, RealtimeBusError, Session
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, PlayedItem
from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTurn, Voice
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import Track, WavSink, write_stereo_wav

from ._conversation import FULL, SHORT, Lines, Person, Speech, hold_conversation
from ._judge import figures, judge
from ._record import Record
from ._view import LiveView, PlainView, Scene, print_summary

__all__ = ["DemoOptions", "run_demo"]

_PERSON = Voice("en-us", rate_wpm=165, pitch=60)
_TIMEOUT_S = 120.0


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``realtime-bus demo`` was asked for.

    Attributes:
        short: Say less.
        wav: Where to write both sides as heard.
        speaker: Whether to play it on the sound device, too.
        view: How to show it.
        url: A real provider, or None for the local server.
        api_key: The key for it.
    """

    short: bool = False
    wav: Path = Path("realtime-bus-demo.wav")
    speaker: bool = False
    view: Literal["auto", "live", "plain"] = "auto"
    url: str | None = None
    api_key: str | None = None

    def __repr__(self) -> str:
        return f"DemoOptions(url={self.url!r}, short={self.short})"


async def run_demo(options: DemoOptions) -> bool:
    """Hold the conversation, print the summary, and return whether all went well.

    Raises:
        ConnectError: There was no conversation: nobody answers at `DemoOptions.url`.
    """
    console = Console()
    lines = SHORT if options.short else FULL
    with console.status("synthesizing the person's speech …"):
        speech = await anyio.to_thread.run_sync(_synthesize, lines)
    heard = WavSink()
    sink = _BothSinks(heard) if options.speaker else heard
    bus = Bus(plugins=[sink, Interruption(sink)], log_errors=False)
    record = Record(bus)
    async with _connected(options, lines, bus) as session:
        person = Person(session)
        session.start_soon(person.run)
        scene = Scene((options.url or "local server").partition("?")[0], record, person, sink)
        session.start_soon(_view(options, console).run, scene)
        broken_off = await _play(session, person, sink, lines, speech)
        record.unheard = sink.positions()
    written = _write_wav(options.wav, person, heard.track)
    checks = judge(record)
    print_summary(console, record, figures(record), checks, None if written else options.wav)
    for trouble in (written, broken_off):
        if trouble is not None:
            console.print(f"[bold red]{trouble}[/]", highlight=False)
    return written is broken_off is None and all(check.passed for check in checks)


def _synthesize(lines: Lines) -> Speech:
    def spoken(text: str) -> bytes:
        return b"".join(piece.pcm for piece in _PERSON.synthesize(text))

    return Speech(spoken(lines.question), spoken(lines.interruption))


@asynccontextmanager
async def _connected(options: DemoOptions, lines: Lines, bus: Bus) -> AsyncGenerator[Session, None]:
    """Connect to a real provider, or to a server of our own on loopback."""
    settings = _settings(options)
    if options.url is not None:
        async with bus.connect(options.url, api_key=options.api_key, **settings) as session:
            yield session
        return
    script = ScriptResponder(
        [
            ScriptTurn(user=lines.question, assistant=lines.answer),
            ScriptTurn(user=lines.interruption, assistant=lines.reply),
        ]
    )
    async with (
        RealtimeServer(script).serve() as bound,
        bus.connect(bound.url_for("gpt-realtime"), **settings) as session,
    ):
        yield session


def _settings(options: DemoOptions) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "turn_detection": ev.ServerVad(silence_duration_ms=400),
        "transcription": ev.Transcription(model="gpt-4o-mini-transcribe"),
    }
    if options.url is not None:
        fields["instructions"] = (
            "You are a cook on the telephone. Answer a first question at length, in at least six "
            "sentences, and any later question in one short sentence."
        )
    return fields


def _view(options: DemoOptions, console: Console) -> LiveView | PlainView:
    live = console.is_terminal if options.view == "auto" else options.view == "live"
    return LiveView(console) if live else PlainView(console)


async def _play(
    session: Session, person: Person, sink: AudioSink, lines: Lines, speech: Speech
) -> str | None:
    """Hold the conversation; return what broke it off, if anything did."""
    closed: list[str] = []
    try:
        with anyio.fail_after(_TIMEOUT_S) as scope:

            def stop(event: ev.Closed) -> None:
                closed.append(f"The session was closed with {event.code} {event.reason}".strip())
                scope.cancel()

            session.once(ev.Closed)(stop)
            await hold_conversation(session, person, sink, lines, speech)
    except TimeoutError:
        return f"The conversation broke off: it took longer than {_TIMEOUT_S:g} s"
    except RealtimeBusError as error:
        return f"The conversation broke off: {error}"
    return closed[0] if closed else None


def _write_wav(path: Path, person: Person, heard: Track) -> str | None:
    """Write both sides; return why not, if so."""
    try:
        path.open("wb").close()  # where this fails, `wave` would leave a warning behind
        write_stereo_wav(path, Track(pcm=bytes(person.said), start_s=person.started_s), heard)
    except OSError as error:
        return f"{path} was not written: {error.strerror or error}"
    return None


class _BothSinks:
    """Plays on the sound device and keeps a record; what was heard is what the device says."""

    def __init__(self, record: WavSink) -> None:
        from realtime_bus_plugins.devices import Speaker  # noqa: PLC0415  # comes with an extra

        self._device = Speaker()
        self._record = record

    def attach(self, session: Session) -> None:
        """Let both take part; each is fed by the session itself."""
        self._device.attach(session)
        self._record.attach(session)

    def start(self, audio_format: ev.AudioFormat) -> None:
        """Pass the format on."""
        self._device.start(audio_format)
        self._record.start(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Pass audio on."""
        self._device.write(audio, item_id=item_id, content_index=content_index)
        self._record.write(audio, item_id=item_id, content_index=content_index)

    def flush(self) -> list[PlayedItem]:
        """Silence the device first."""
        played = self._device.flush()
        self._record.flush()
        return played

    def positions(self) -> list[PlayedItem]:
        """Return what the device says."""
        return self._device.positions()

    @property
    def playing(self) -> bool:
        """Whether the device plays."""
        return self._device.playing
