"""A recorded session once more, through the handlers of today.

Rules:

1. The server's part is played by the recording (`ReplayTransport`), the application's by the bus
   that is given: its handlers and plugins run as they do in a call. Audio of the microphone and the
   settings of `Bus.connect` are left to the recording, and so is what the caller names; a ``main``
   does what the application's main program did.
2. What the bus sends, what the application emits and which handlers fail is compared with what the
   recording has (`Comparison`).
3. Nothing is opened: a bus that plays or records with a device is refused. A function may make the
   bus with a sink that hears what was heard then (`ReplaySink`).
4. What came from outside, as the caller names it, is emitted again at its time.
5. Where the recording lost a connection, so does the replay (`ReplayedConnection`). One that was
   replaced before the server's limit goes on, and that is told.
6. The replay ends with the recording, whatever the bus still has to do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import anyio
import msgspec
from typing_extensions import Unpack

from realtime_bus._virtual_time import Backend, run_virtual
from realtime_bus.audio import AudioSink
from realtime_bus.bus import Bus
from realtime_bus.errors import SessionClosed, UsageError
from realtime_bus.recording._reading import Recording
from realtime_bus.session import Plugin, Reconnect, Session

from ._report import ReplayOptions, ReplayReport
from ._sink import ReplaySink
from ._transport import ReplayTransport

BusMaker: TypeAlias = Callable[[ReplaySink], Bus]
MainProgram: TypeAlias = Callable[[Session[Any]], Awaitable[object]]

_RECONNECT: Final = Reconnect(
    max_outage_s=math.inf,
    first_delay_s=0.0,
    max_delay_s=0.0,
    max_gap_events=1_000_000,
    max_gap_bytes=1024 * 1024 * 1024,
    rollover_before_s=None,  # the limit that the server told of is over
)
_OF_MAIN: Final = {  # what is more often than not
    "conversation.item.create",
    "input_audio_buffer.commit",
    "response.create",
    "session.update",
}
_LEAVE_S: Final = 5.0  # that a main program has when the recording is over
_PATHS: Final = {
    "realtime": "/v1/realtime?model=replay",
    "translation": "/v1/realtime/translations?model=replay",
}
_DEVICES: Final = frozenset(
    {
        "realtime_bus_plugins.browser.Browser",
        "realtime_bus_plugins.devices.Microphone",
        "realtime_bus_plugins.devices.Speaker",
        "realtime_bus_plugins.echo_cancellation.EchoCancellation",
        "realtime_bus_plugins.telephony.PhoneCall",
    }
)


async def replay(
    recording: Recording | str | os.PathLike[str],
    bus: Bus | BusMaker,
    *,
    main: MainProgram | None = None,
    settings: Mapping[str, Any] | None = None,
    state: Any = None,
    plugins: Iterable[Plugin] = (),
    **options: Unpack[ReplayOptions],
) -> ReplayReport:
    """Run a recorded session again through a bus, and compare what it does with what it did.

    Args:
        recording: What to replay.
        bus: What to run; or a function that is given a sink that hears what was heard then, for
            plugins such as `Interruption`, and returns the bus.
        main: What the application's main program does with its session.
        settings: What it gave to `Bus.connect`; sent and compared.
        state: The application's own object of the call.
        plugins: Attached to this session alone, after the bus's.
        **options: `ReplayOptions`.

    Returns:
        What came of it: ``assert not report.differences``.

    Raises:
        RecordingError: It is no recording.
        UsageError: The bus has a device, or an option cannot work.
        ConnectError: The recording ends before its session has begun.
        OSError: The recording cannot be read.
    """
    transport = ReplayTransport(recording, **options)
    runs = bus if isinstance(bus, Bus) else bus(transport.sink)
    if not isinstance(runs, Bus):
        raise UsageError(f"replay() was given {bus!r:.60}, which made {runs!r:.60} and no Bus")
    own = [*plugins]
    attached = [*runs.plugins, *own]
    _refuse_devices(attached)
    notes: list[str] = []
    open_session: Any = runs.session  # its overloads know no settings by name
    how: dict[str, Any] = {
        "protocol": transport.protocol,
        "wait_created": transport.has_created,
    }
    place: object = transport
    if transport.reconnects and transport.has_created:
        open_session, place = runs.connect, f"wss://replay.invalid{_PATHS[transport.protocol]}"
        how = {"dial": transport.dial, "reconnect": _RECONNECT, "api_key": "none"}
    async with open_session(
        place,
        plugins=[*own, transport],
        state=state,
        open_timeout_s=math.inf,
        **how,
        **(settings or {}),
    ) as session:
        if main is not None and not await _run_to_the_end(main, session):
            notes.append("the recording ended before the main program did")
        await session.wait_closed()
    report = transport.report()
    missing = {each.type for each in report.differences if each.kind == "missing"}
    if main is None and (commands := sorted(missing & _OF_MAIN)):
        notes.append(
            "what is missing may have been the main program's: give that as main, or leave it to "
            f"the recording with left: {', '.join(commands)}"
        )
    notes += [*report.notes, *(_note(each) for each in attached if _has_own_ears(each))]
    return msgspec.structs.replace(report, notes=notes)


def run_replay(
    recording: Recording | str | os.PathLike[str],
    bus: Bus | BusMaker,
    *,
    backend: Backend = "asyncio",
    main: MainProgram | None = None,
    settings: Mapping[str, Any] | None = None,
    state: Any = None,
    plugins: Iterable[Plugin] = (),
    **options: Unpack[ReplayOptions],
) -> ReplayReport:
    """Do the same as `replay`, in a loop of its own with a virtual clock: where none runs.

    Args:
        recording: What to replay.
        bus: What to run, or what makes it.
        backend: Which event loop.
        main: What the application's main program does with its session.
        settings: What it gave to `Bus.connect`.
        state: The application's own object of the call.
        plugins: Attached to this session alone, after the bus's.
        **options: `ReplayOptions`.
    """
    call = partial(replay, main=main, settings=settings, state=state, plugins=plugins)
    run = partial(call, recording, bus, **options)
    return run_virtual(run, backend=backend)


async def _run_to_the_end(main: MainProgram, session: Session[Any]) -> bool:
    """Run the main program; return False if the recording was over first."""
    with anyio.CancelScope() as scope:

        def hurry() -> None:
            scope.deadline = session.clock() + _LEAVE_S

        session.on_close(hurry)
        try:
            await main(session)
        except SessionClosed:
            if session.close_info is None:  # another session's
                raise
            return False
        return True
    return False


def _has_own_ears(plugin: object) -> bool:
    return isinstance(plugin, AudioSink) and not isinstance(plugin, ReplaySink)


def _note(sink: object) -> str:
    return (
        f"{type(sink).__name__} heard what it was given now, not what was heard then: where "
        "interruptions differ, give a function that takes a sink and returns the bus"
    )


def _refuse_devices(plugins: Iterable[object]) -> None:
    """Complain of a bus that would open a device.

    Raises:
        UsageError: It has one.
    """
    for plugin in plugins:
        kinds = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(plugin).__mro__}
        if kinds & _DEVICES:
            raise UsageError(
                f"this bus has {type(plugin).__name__}(), which talks to the world outside; a "
                "replay does not. Give a function that makes the bus without it, with the sink "
                "that it is given: replay(recording, lambda sink: Bus(plugins=[sink, "
                "Interruption(sink), ...]))"
            )
