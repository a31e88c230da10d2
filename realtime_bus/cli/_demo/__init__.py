"""``realtime-bus demo``: real speech, a real socket, a real detector, and an interruption.

The parts: `_lines` what is said, `_person` who says it, `_conversation` in which order,
`_record` what happened, `_judge` whether it should have, `_view` and `_summary` how it looks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import msgspec
from rich.console import Console

from realtime_bus import events as ev
from realtime_bus import Bus
from realtime_bus.session._settings import SessionSettings
from realtime_bus.session import Session
from realtime_bus._tasks import background_tasks
from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTurn, Voice

from ._conversation import DemoFailed, Speech, hold_conversation
from ._judge import figures, judge
from ._lines import FULL, SHORT, Lines
from ._person import Person
from ._record import Record
from ._summary import print_summary
from ._view import LiveView, PlainView, Scene

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
    """Hold the conversation, print the summary, and return whether all went well."""
    console = Console()
    lines = SHORT if options.short else FULL
    with console.status("synthesizing the person's speech …"):
        speech = await anyio.to_thread.run_sync(_synthesize, lines)
    async with _address(options, lines) as url:
        bus, sink, heard = _application(options)
        record = Record(bus)
        failure, person = await _converse(options, console, bus, sink, record, url, lines, speech)
    _write_wav(options.wav, person, heard)
    checks = judge(record)
    print_summary(console, record, figures(record), checks, options.wav)
    if failure is not None:
        console.print(f"[bold red]The conversation broke off:[/] {failure}")
    return failure is None and all(check.passed for check in checks)


def _synthesize(lines: Lines) -> Speech:
    def spoken(text: str) -> bytes:
        return b"".join(piece.pcm for piece in _PERSON.synthesize(text))

    return Speech(spoken(lines.question), spoken(lines.interruption))


@asynccontextmanager
async def _address(options: DemoOptions, lines: Lines) -> AsyncGenerator[str, None]:
    """Yield what to connect to: a real provider, or a server of our own on loopback."""
    if options.url is not None:
        yield options.url
        return
    script = ScriptResponder(
        [
            ScriptTurn(user=lines.question, assistant=lines.answer),
            ScriptTurn(user=lines.interruption, assistant=lines.reply),
        ]
    )
    async with RealtimeServer(script).serve() as bound:
        yield bound.url_for("gpt-realtime")


def _application(options: DemoOptions) -> tuple[Bus, Any, Any]:
    """Build the bus as an application would; return it, its sink, and what records the sink."""
    # plugins are imported by applications, of which the demo is one; the core never does
    from realtime_bus_plugins.interruption import Interruption  # noqa: PLC0415  # as above
    from realtime_bus_plugins.sinks import WavSink  # noqa: PLC0415  # as above

    heard = WavSink()
    sink: Any = heard
    if options.speaker:
        from realtime_bus_plugins.devices import Speaker  # noqa: PLC0415  # as above

        from ._sinks import BothSinks  # noqa: PLC0415  # as above

        sink = BothSinks(Speaker(), heard)
    return Bus(plugins=[sink, Interruption(sink)], log_errors=False), sink, heard


def _settings(options: DemoOptions) -> SessionSettings:
    fields: SessionSettings = {
        "turn_detection": ev.ServerVad(silence_duration_ms=400),
        "transcription": ev.Transcription(model="gpt-4o-mini-transcribe"),
    }
    if options.url is not None:
        fields["instructions"] = (
            "You are a cook on the telephone. Answer a first question at length, in at least six "
            "sentences, and any later question in one short sentence."
        )
    return fields


async def _converse(
    options: DemoOptions,
    console: Console,
    bus: Bus,
    sink: Any,
    record: Record,
    url: str,
    lines: Lines,
    speech: Speech,
) -> tuple[DemoFailed | None, Person]:
    view = _view(options, console)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            bus.connect(url, api_key=options.api_key, **_settings(options))
        )
        tasks = await stack.enter_async_context(background_tasks())
        person = Person(session)
        tasks.start_soon(person.run)
        tasks.start_soon(
            view.run, Scene(url.split("?", maxsplit=1)[0], record, person, sink, session)
        )
        failure = await _play(session, person, sink, lines, speech)
        record.unheard = sink.positions()
    return failure, person


async def _play(
    session: Session, person: Person, sink: Any, lines: Lines, speech: Speech
) -> DemoFailed | None:
    try:
        with anyio.fail_after(_TIMEOUT_S):
            await hold_conversation(session, person, sink, lines, speech)
    except DemoFailed as error:
        return error
    except TimeoutError:
        return DemoFailed(f"the conversation took longer than {_TIMEOUT_S:g} s")
    return None


def _view(options: DemoOptions, console: Console) -> LiveView | PlainView:
    live = console.is_terminal if options.view == "auto" else options.view == "live"
    return LiveView(console) if live else PlainView(console)


def _write_wav(path: Path, person: Person, heard: Any) -> None:
    from realtime_bus_plugins.sinks import Track, write_stereo_wav  # noqa: PLC0415  # as above

    left = Track(pcm=bytes(person.said), start_s=person.started_s)
    write_stereo_wav(path, left, heard.track)
