"""Plugins: attached once to each session, before its first frame."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import Bus, Plugin, Session, UsageError
from realtime_bus import events as ev

from ._peer import Peer, joined, speech

pytestmark = pytest.mark.anyio


class Recorder:
    """A plugin that notes what it is told."""

    def __init__(self) -> None:
        self.trace: list[str] = []

    def attach(self, session: Session) -> None:
        """Note it, and what comes."""
        self.trace.append("attach")
        session.on(ev.SessionCreated)(lambda event: self.trace.append("created"))
        session.on_close(lambda: self.trace.append("closed"))


async def test_a_plugin_is_attached_once_per_session_before_its_first_frame() -> None:
    """`attach` runs once for each session, early enough to see ``session.created``."""
    recorder = Recorder()
    assert isinstance(recorder, Plugin)
    bus = Bus(plugins=[recorder])
    async with joined(bus):
        assert recorder.trace == ["attach", "created"]
    async with joined(bus):
        pass
    assert recorder.trace == ["attach", "created", "closed"] * 2


async def test_a_plugin_may_run_tasks_and_register_with_the_bus() -> None:
    """Tasks of a plugin are cancelled at the session's end, and its handlers count once."""
    heard, ended = list[int](), list[str]()
    bus = Bus()

    async def forever(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(name)

    class Busy:
        def attach(self, session: Session) -> None:
            session.start_soon(forever, "task")
            bus.on("input_audio_buffer.speech_started")(
                lambda event: heard.append(event.audio_start_ms)
            )

    async with joined(bus, plugins=[Busy()]) as (_, peer):
        await anyio.wait_all_tasks_blocked()
        peer.say(speech(1))
    assert heard == [1]
    assert ended == ["task"]


async def test_a_plugin_that_cannot_be_attached_keeps_the_session_from_opening() -> None:
    """What `attach` raises comes out of the opening, and the connection is closed."""
    closed = list[str]()

    class Picky:
        def attach(self, session: Session) -> None:
            session.on_close(lambda: closed.append("called back"))
            raise LookupError("no microphone")

    peer = Peer()
    with pytest.raises(LookupError, match="no microphone"):
        async with Bus(plugins=[Picky()]).session(peer.transport):
            pytest.fail("the block must not begin")
    assert peer.closed == (1000, "")
    assert closed == ["called back"]


async def test_tasks_cannot_be_started_after_the_end() -> None:
    """`start_soon` on a session that has ended says so."""
    async with joined() as (session, _):
        pass
    with pytest.raises(Exception, match="cannot start a task: the session closed with 1000"):
        session.start_soon(anyio.sleep_forever)


WRONG: list[tuple[Any, str]] = [
    (Recorder, r"Recorder is a class; give the bus an instance: Recorder\(...\)"),
    (object(), r"is not a plugin: it has no attach\(session\) method"),
]


@pytest.mark.parametrize(("plugin", "message"), WRONG)
def test_what_is_no_plugin_is_refused(plugin: Any, message: str) -> None:
    """A bus says at once what is wrong with a plugin."""
    with pytest.raises(UsageError, match=message):
        Bus(plugins=[plugin])
