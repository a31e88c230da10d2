"""``realtime-bus demo``: real speech, a real socket, a real detector, and an interruption.

The parts: `_conversation` what is said and by whom, `_record` what happened, `_judge` whether it
should have, `_screen` how it looks while it happens, `_view` who draws that, `_summary` what is
told at the end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import anyio
import anyio.to_thread
import msgspec
from rich.console import Console

from realtime_bus import Bus, RealtimeBusError, Session
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, PlayedItem
from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTurn, Voice
from realtime_bus_plugins.devices import Speaker
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import Track, WavSink

from ._conversation import (
    FULL,
    SHORT,
    DemoFailed,
    Lines,
    Person,
    Speech,
    Utterance,
    hold_conversation,
)
from ._record import Record
from ._screen import Scene
from ._summary import Summary
from ._view import LiveView, PlainView, Terminal, show

__all__ = ["DemoOptions", "run_demo"]

_PERSON = Voice("en-us", rate_wpm=165, pitch=60)
_TIMEOUT_S = 120.0


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``realtime-bus demo`` was asked for.

    Attributes:
        short: Say less.
        wav: Where to write both sides as heard; the page to look at is written beside it.
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

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # rich, of an exception's locals
        return [("url", self.url), ("short", self.short)]


async def run_demo(options: DemoOptions) -> bool:
    """Hold the conversation, print the summary, and return whether all went well.

    Where there was a conversation there is a summary: also when it was broken off, and on stderr
    when stdout takes no more.

    Raises:
        ConnectError: There was no conversation: nobody answers at `DemoOptions.url`.
        NoSoundDevice: There is nothing to play it on.
    """
    with TemporaryDirectory(prefix="realtime-bus-demo-", ignore_cleanup_errors=True) as folder:
        return await _run(options, Path(folder))


async def _run(options: DemoOptions, folder: Path) -> bool:
    console = Terminal()
    lines = SHORT if options.short else FULL
    speech = await anyio.to_thread.run_sync(_synthesize, lines)
    heard = WavSink()
    room = _Room(heard) if options.speaker else None
    sink = room or heard
    plugins = [sink, Interruption(sink), Recorder(folder, sink=sink)]
    bus = Bus(plugins=plugins, log_errors=False)
    told = Summary(Record(bus), wav=options.wav, recorded=folder)
    try:
        async with _connected(options, lines, bus) as session:
            person = Person(session, aloud=room.person if room else None)
            session.start_soon(person.run)
            title = (options.url or "local server").partition("?")[0]
            scene = Scene(title, told.record, person, sink)
            session.start_soon(show, _view(options, console), scene, told.notes)
            try:
                await _play(session, person, sink, lines, speech)
            except RealtimeBusError as error:
                told.broken_off = str(error)
            else:
                told.broken_off = None
            finally:
                told.record.unheard = sink.positions()
                told.begun = True
                told.person = Track(pcm=bytes(person.said), start_s=person.started_s)
                told.assistant = heard.track
    finally:
        passed = told.begun and told.tell(console)
    return passed


def _synthesize(lines: Lines) -> Speech:
    return Speech(
        Utterance(_PERSON.synthesize(lines.question)),
        Utterance(_PERSON.synthesize(lines.interruption)),
    )


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
        "turn_detection": ev.ServerVad(silence_duration_ms=500),
        "transcription": ev.Transcription(model="gpt-4o-mini-transcribe"),
        "reconnect": False,  # one conversation, on one connection: a lost one is to be seen
    }
    if options.url is not None:
        fields["instructions"] = (
            "You are a cook on the telephone. Answer a first question at length, in at least six "
            "sentences, and any later question in one short sentence."
        )
    return fields


def _view(options: DemoOptions, console: Console) -> LiveView | PlainView:
    able = console.is_terminal and not console.is_dumb_terminal
    live = able if options.view == "auto" else options.view == "live"
    return LiveView(console) if live else PlainView(console)


async def _play(
    session: Session, person: Person, sink: AudioSink, lines: Lines, speech: Speech
) -> None:
    """Hold the conversation.

    Raises:
        DemoFailed: Something broke it off.
    """
    closed: list[str] = []
    try:
        with anyio.fail_after(_TIMEOUT_S) as scope:

            def stop(event: ev.Closed) -> None:
                closed.append(f"the session was closed with {event.code} {event.reason}".strip())
                scope.cancel()

            session.once(ev.Closed)(stop)
            await hold_conversation(session, person, sink, lines, speech)
    except TimeoutError:
        raise DemoFailed(f"it took longer than {_TIMEOUT_S:g} s") from None
    if closed:
        raise DemoFailed(closed[0])


class _Room:
    """A sink in which both voices are heard: each has a stream of its own on the sound device.

    What was heard of the assistant is what the device says; `record` keeps it for the file.

    Attributes:
        person: Where the person is played.
    """

    def __init__(self, record: WavSink) -> None:
        self._device = Speaker()
        self._record = record
        self.person: Speaker = Speaker()

    async def prepare(self, session: Session) -> None:
        """Open both streams, without holding up the event loop."""
        await self._device.prepare(session)
        await anyio.to_thread.run_sync(self.person.open)

    def attach(self, session: Session) -> None:
        """Let all take part; each is fed by the session itself, the person's by the person."""
        self._device.attach(session)
        self._record.attach(session)
        self.person.start(ev.AudioPCM())
        session.on_close(self.person.close)

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
