"""Mistakes that type checkers must find, each on a line marked with ``E:``; never run."""

# ruff: noqa: D102, D103  # samples for type checkers, named after what they show

from __future__ import annotations

from typing import Any

from realtime_bus import Bus, HandlerGroup, Plugin, Session, on
from realtime_bus import events as ev


class NotAPlugin:
    """Has no ``attach``."""


class OddPlugin:
    """Attaches to something else."""

    def attach(self, session: int) -> None: ...


class Order:
    """What an application knows of one call."""

    items: int = 0


class OrderPlaced(ev.AppEvent):
    """An event of the application's own."""

    items: int = 0


class Declaring(Plugin):
    """Declares methods for the wrong events."""

    @on("error")  # E: the method of another event
    def ended(self, event: ev.ResponseDone) -> None: ...

    @on(OrderPlaced)  # E: the same, of the application's own
    async def placed(self, event: ev.Error, session: Session) -> None: ...

    @on("response.dnoe")  # E: a mistyped wire name
    def mistyped(self, event: ev.ResponseDone) -> None: ...

    @on("response.done", limits=3)  # E: no such option
    def options(self, event: ev.ResponseDone) -> None: ...


bus = Bus()
handlers = HandlerGroup()


def done(event: ev.ResponseDone) -> None: ...
def done_in(event: ev.ResponseDone, session: Session) -> None: ...
async def failed(event: ev.Error) -> None: ...
def odd_session(event: ev.ResponseDone, session: int) -> None: ...
def three(event: ev.ResponseDone, session: Session, more: int) -> None: ...
def nothing() -> None: ...
def about_errors(event: ev.Error) -> bool:
    return bool(event.error.code)


bus.on("error")(done)  # E: the handler of another event
bus.on("error")(done_in)  # E: the same with a session
bus.on(ev.ResponseDone)(failed)  # E: the handler of another event, by class
bus.on(ev.ResponseDone, ev.Error)(done)  # E: one of the two events does not fit
bus.on("response.dnoe")(done)  # E: a mistyped wire name
bus.on("response.*.dnoe")(done)  # E: a pattern that stands for nothing
bus.on("session.update")(lambda event: None)  # E: an event that we send
bus.on("response.done")(odd_session)  # E: no session
bus.on("response.done")(three)  # E: too many parameters
bus.on("response.done")(nothing)  # E: too few parameters
bus.on("response.done", where=about_errors)  # E: the predicate of another event
bus.on(ev.ResponseDone, where=True)  # E: a predicate that is none
bus.on("response.done", mode="later")  # E: no such mode
bus.on("response.done", max_pendin=3)  # E: no such option
bus.on(int)  # E: no event
bus.on()  # E: nothing at all
bus.once("eror")(failed)  # E: a mistyped wire name
Bus(plugins=[NotAPlugin()])  # E: a plugin without attach
Bus(plugins=[OddPlugin()])  # E: a plugin that attaches to something else
bus.connect("m", voise="marin")  # E: no such setting
bus.connect("m", speed="fast")  # E: a setting of another type
bus.connect(intent="transcription", voice="marin")  # E: no setting of transcriptions
bus.connect("m", intent="translation", instructions="x")  # E: no setting of translations
bus.connect("m", language="de")  # E: a setting of translations alone
bus.connect("m", intent="dictation")  # E: no such intent
bus.connect("m", plugins=[NotAPlugin()])  # E: a plugin without attach
bus.session(object(), protocol="translation", voice="marin")  # E: no setting of translations
bus.on(OrderPlaced)(failed)  # E: the handler of another event than the application's own
OrderPlaced(3)  # E: keywords only, though nobody said so
OrderPlaced(items=3).items = 4  # E: frozen, though nobody said so
bus.on("app.order_placed")  # E: an event of one's own is selected by its class
bus.on("response.done", "eror")  # E: a mistyped wire name behind a right one
handlers.on("error")(done)  # E: the handler of another event, in a group
bus.include(handlers, timeout=5)  # E: no such option for a group
bus.emit(ev.Error(error=ev.ErrorDetails(type="", message="")))  # E: not the bus's own event


async def program(session: Session, anything: Any) -> None:
    await session.update(voice=3)  # E: a setting of another type
    await session.update(voise="marin")  # E: no such setting
    await session.update(turn_detection="server_vad")  # E: a name in place of an object
    await session.truncate_item("item", 3)  # E: a keyword only
    await session.append_audio("text")  # E: no audio
    await session.send(ev.SessionUpdated(session=anything))  # E: a server's event
    number: int = await session.wait_for("response.done")  # E: another class
    await session.wait_for("response.dnoe")  # E: a mistyped wire name
    async for event in session.stream(ev.ResponseDone):
        _ = event.delta  # E: no such field
    async for text in session.respond().audio():
        text.upper().encode()  # E: bytes, not text
    ev.ResponseDone("x")  # E: keywords only
    await session.update(language="de")  # E: a setting of translations
    await session.update_translation(voice="marin")  # E: no setting of translations
    session.emit(ev.InputAudioBufferCommit())  # E: a command is sent
    await session.cancel()  # E: no such verb
    async with bus.connect("m", state=Order()) as ordered:
        _ = ordered.state.itmes  # E: no such field of the application's own object
    del number
