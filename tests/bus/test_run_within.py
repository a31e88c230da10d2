"""A plugin runs a session's handlers inside a context manager: what they find set there."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import anyio
import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev

from ._peer import joined, speech

pytestmark = pytest.mark.anyio

WHOSE: ContextVar[str] = ContextVar("whose", default="nobody")


class Marked:
    """Sets a context variable for whatever runs on behalf of a session."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entered = 0

    def attach(self, session: Session) -> None:
        """Mark a session's handlers."""
        session.run_within(self.mark)

    @contextmanager
    def mark(self) -> Generator[None]:
        """Set the variable for a while."""
        self.entered += 1
        token = WHOSE.set(f"{WHOSE.get()} {self.name}")
        try:
            yield
        finally:
            WHOSE.reset(token)


async def test_handlers_of_all_modes_run_within() -> None:
    """Plain and async ones, of the bus and of the session, whoever feeds the frame."""
    bus = Bus(plugins=[Marked("ours")], raise_handler_errors=True)
    found: dict[str, str] = {}
    done = anyio.Event()

    def note(name: str) -> None:
        found[name] = WHOSE.get()
        if len(found) == 5:
            done.set()

    bus.on(ev.InputAudioBufferSpeechStarted)(lambda _event: note("plain"))

    @bus.on(ev.InputAudioBufferSpeechStarted, mode="queue")
    async def queued(_event: ev.InputAudioBufferSpeechStarted) -> None:
        note("queue")

    @bus.on(ev.InputAudioBufferSpeechStarted, mode="eager")
    async def eager(_event: ev.InputAudioBufferSpeechStarted) -> None:
        note("eager")

    async with joined(bus) as (session, peer):
        session.on(ev.InputAudioBufferSpeechStarted)(lambda _event: note("the session's"))

        @session.on(ev.InputAudioBufferSpeechStarted, mode="eager")
        async def later(_event: ev.InputAudioBufferSpeechStarted) -> None:
            note("the session's, eager")

        WHOSE.set("caller")
        peer.say(speech())
        with anyio.fail_after(5):
            await done.wait()
        assert WHOSE.get() == "caller"
    assert {name: whose.split()[-1] for name, whose in found.items()} == dict.fromkeys(
        found, "ours"
    )


async def test_sessions_do_not_share_it() -> None:
    """Each has its own, and a mailbox keeps its session's even if another one's handler fed it."""
    found: list[str] = []
    bus = Bus(raise_handler_errors=True)

    class Woken(ev.AppEvent):
        """Something that one session tells another."""

    async with (
        joined(bus, plugins=[Marked("first")]) as (first, peer),
        joined(bus, plugins=[Marked("second")]) as (second, _),
    ):
        done = second.wait_for(Woken)

        @second.on(Woken, mode="queue")
        async def wake(_event: Woken) -> None:
            found.append(WHOSE.get().split()[-1])

        @first.on(ev.InputAudioBufferSpeechStarted)
        def start(_event: ev.InputAudioBufferSpeechStarted) -> None:
            found.append(WHOSE.get().split()[-1])
            second.emit(Woken())

        peer.say(speech())
        await done
    assert found == ["first", "second"]


async def test_the_first_plugin_is_the_innermost() -> None:
    """Managers of several plugins are all entered, and left again."""
    found: list[str] = []
    outer, inner = Marked("outer"), Marked("inner")
    bus = Bus(plugins=[inner, outer], raise_handler_errors=True)
    bus.on(ev.InputAudioBufferSpeechStarted)(lambda _event: found.append(WHOSE.get()))
    async with joined(bus) as (_session, peer):
        before = outer.entered, inner.entered
        peer.say(speech(), speech())
        assert (outer.entered, inner.entered) == (before[0] + 2, before[1] + 2)
    assert [whose.split()[-2:] for whose in found] == [["outer", "inner"]] * 2


async def test_one_that_raises_is_reported() -> None:
    """The frame is lost, the session goes on."""
    failures: list[ev.HandlerFailed] = []
    broken = False

    @contextmanager
    def manager() -> Generator[None]:
        if broken:
            raise ValueError("no context today")
        yield

    class Raising:
        def attach(self, session: Session) -> None:
            session.run_within(manager)
            session.on(ev.HandlerFailed)(failures.append)

    async with joined(Bus(plugins=[Raising()])) as (session, peer):
        broken = True
        peer.say(speech())
        broken = False
        assert [str(failed.error) for failed in failures] == ["no context today"]
        assert session.close_info is None


async def test_it_is_too_late_once_frames_have_come() -> None:
    """What came before would not have run within."""
    async with joined() as (session, _peer):
        with pytest.raises(UsageError, match=r"call it in attach\(\)"):
            session.run_within(Marked("late").mark)
