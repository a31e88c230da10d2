"""``realtime-bus talk``: the whole agent in a terminal, with microphone and loudspeaker.

The rules:

1. The local server answers, on loopback, unless a model or an address is given.
2. How the room is kept out of the conversation is one of four: the echo is cancelled, the
   microphone is deaf while the assistant speaks, only what is said while a key is pressed is sent,
   or there are headphones. Cancelling is the default where its extra is installed.
3. Space begins and ends a turn in push-to-talk; elsewhere it interrupts. ``m`` mutes, ``q`` ends.
   A terminal does not tell when a key is let go, so that space is pressed twice.
4. What the system's sound libraries print by themselves is not shown: it would tear the view.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import anyio
import msgspec

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, VoiceResponder
from realtime_bus_plugins.devices import InputLevel, Microphone, Speaker
from realtime_bus_plugins.echo_cancellation import EchoCancellation
from realtime_bus_plugins.interruption import Interruption

from ._demo._judge import counted
from ._demo._record import Record
from ._demo._screen import Scene, spoken
from ._demo._view import LiveView, PlainView, Terminal, show
from ._keys import pressed_keys

_SPEAKING_DBFS = -45.0
_QUIETEST_DBFS = -60.0
_GREETING = "Greet the person in one short sentence."

_RACE = "conversation_already_has_active_response"  # no error: the session waits, and asks again

Echo = Literal["auto", "cancel", "half-duplex", "push-to-talk", "headphones"]


class TalkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``realtime-bus talk`` was asked for.

    Attributes:
        url: A provider's address, a model's name for OpenAI, or None for the local server.
        api_key: The key for it.
        instructions: What the assistant is told, if anything.
        voice: Which voice it has.
        microphone: Which device listens; None for the default.
        speaker: Which device plays.
        echo: What keeps the room out of the conversation.
        view: How to show it.
    """

    url: str | None = None
    api_key: str | None = None
    instructions: str | None = None
    voice: str | None = None
    microphone: int | str | None = None
    speaker: int | str | None = None
    echo: Echo = "auto"
    view: Literal["auto", "live", "plain"] = "auto"

    def __repr__(self) -> str:
        return f"TalkOptions(url={self.url!r}, echo={self.echo!r})"


async def run_talk(options: TalkOptions) -> None:
    """Talk until somebody has had enough: a key, a signal, or the server.

    Raises:
        ConnectError: Nobody answers at `TalkOptions.url`.
        MissingExtra: An extra is not installed.
        NoSoundDevice: There is no such microphone or loudspeaker, or none at all.
        UsageError: Push-to-talk was asked for without a terminal to press keys in.
    """
    console = Terminal()
    echo = _echo(options.echo)
    if echo == "push-to-talk" and not sys.stdin.isatty():
        raise UsageError("push-to-talk needs a terminal, to press the space bar in")
    call = _Call(options, echo)
    record = Record(call.bus)
    live = options.view == "live" or (
        options.view == "auto" and console.is_terminal and not console.is_dumb_terminal
    )
    notes: list[str] = []
    try:
        with _quiet_libraries(wanted=live):
            try:
                async with _connected(options, call) as session:
                    title = (options.url or "local server").partition("?")[0]
                    scene = Scene(
                        title,
                        record,
                        call,
                        call.speaker,
                        name="realtime-bus talk",
                        keys=f"space {'talks' if call.presses else 'interrupts'}, m mutes, q ends",
                    )
                    view = LiveView(console) if live else PlainView(console)
                    session.start_soon(show, view, scene, notes)
                    session.start_soon(call.listen_to_keys, session)
                    await session.wait_closed()
            finally:
                with anyio.CancelScope(shield=True):  # some 50 ms: what was played is heard
                    await call.speaker.aclose()
    finally:
        _tell(console, record, call)


def _echo(wanted: Echo) -> Echo:
    if wanted != "auto":
        return wanted
    return "cancel" if find_spec("livekit") is not None else "headphones"


class _Call:
    """The devices of a conversation, and who speaks into it: a scene's person.

    Attributes:
        speaking: Whether there is a voice in what is being sent.
        level: How loud it is, from 0 to 1.
        words: What is being said: nobody knows it on this side.
    """

    words = ""

    def __init__(self, options: TalkOptions, echo: Echo) -> None:
        self.speaking = False
        self.level = 0.0
        self.presses = echo == "push-to-talk"
        self.talks = False  # the key was pressed, and not again yet
        self.speaker: Speaker = Speaker(options.speaker)
        self.microphone: Microphone = Microphone(
            options.microphone,
            half_duplex=self.speaker if echo == "half-duplex" else None,
            push_to_talk=self.presses,
            level_every_s=0.1,
        )
        self._interruption = Interruption(self.speaker, on_speech_started=not self.presses)
        plugins: list[Any] = [self.microphone, self.speaker]
        if echo == "cancel":
            plugins.append(EchoCancellation(self.microphone, self.speaker))
        self.bus: Bus = Bus(plugins=[*plugins, self._interruption], log_errors=False)
        self.bus.on(InputLevel)(self._hear)

    @property
    def note(self) -> str:
        """What the keys have made of the microphone."""
        if self.microphone.muted:
            return "muted"
        return "on air" if self.talks else ""

    def _hear(self, event: InputLevel) -> None:
        self.speaking = event.dbfs > _SPEAKING_DBFS
        self.level = max(0.0, 1 - event.dbfs / _QUIETEST_DBFS)

    async def listen_to_keys(self, session: Session) -> None:
        """Do what the keys say."""
        does: dict[str, Callable[[Session], Awaitable[object]]] = {
            " ": self._space,
            "m": self._mute,
            "q": Session.aclose,
            "\x04": Session.aclose,  # Ctrl-D
        }
        async with aclosing(pressed_keys()) as keys:  # which leaves the terminal as it was
            async for key in keys:
                if key in does:
                    await does[key](session)

    async def _space(self, session: Session) -> None:
        if not self.talks:
            self._interruption.interrupt(session)
        if not self.presses:
            return
        self.talks = not self.talks
        if self.talks:
            self.microphone.press()
        else:
            self.speaking, self.level = False, 0.0
            await self.microphone.release()

    async def _mute(self, _session: Session) -> None:
        self.microphone.muted = not self.microphone.muted


@asynccontextmanager
async def _connected(options: TalkOptions, call: _Call) -> AsyncGenerator[Session, None]:
    """Connect to a provider, or to a server of our own on loopback, and be greeted."""
    settings: dict[str, Any] = {
        "turn_detection": None if call.presses else ev.ServerVad(silence_duration_ms=500),
    }
    if options.url is not None:  # the local server knows only what a script says
        settings["transcription"] = ev.Transcription(model="gpt-4o-mini-transcribe")
    given = {"instructions": options.instructions, "voice": options.voice}
    settings |= {name: value for name, value in given.items() if value is not None}
    if options.url is not None:
        async with call.bus.connect(options.url, api_key=options.api_key, **settings) as session:
            session.respond(instructions=_GREETING)
            yield session
        return
    async with (
        RealtimeServer(VoiceResponder()).serve() as bound,
        call.bus.connect(bound.url_for("gpt-realtime"), **settings) as session,
    ):
        session.respond()
        yield session


@contextmanager
def _quiet_libraries(*, wanted: bool) -> Generator[None, None, None]:
    """Let only Python write to stderr: PortAudio and ALSA print what they try in vain."""
    if not wanted:
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    python, sys.stderr = sys.stderr, open(kept, "w", closefd=False)  # noqa: SIM115 - a number
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = python
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _tell(console: Terminal, record: Record, call: _Call) -> None:
    """Print what was said, and what went less than well."""
    for said in record.said:
        console.print(spoken(said))
    silent_ms = [happened.latency_s * 1000 for happened in record.interruptions]
    talk = f"{counted(record.turns, 'turn')}, {counted(len(silent_ms), 'interruption')}"
    if silent_ms:
        talk += f", silent at the sink in {max(silent_ms):.2f} ms at most"
    troubles = (
        (call.speaker.underruns, counted(call.speaker.underruns, "underrun")),
        (call.microphone.dropped_ms, f"{call.microphone.dropped_ms} ms of the microphone dropped"),
        (record.losses, f"a device was lost {counted(record.losses, 'time')}"),
    )
    errors = (f"the server's error: {e.message}" for e in record.errors if e.code != _RACE)
    for line in (talk, *(what for number, what in troubles if number), *errors):
        console.print(line, style="dim", highlight=False)
