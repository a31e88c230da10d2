"""A page's call on the server's side; the page is the test's, and a real one in tests/browser."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, MissingExtra, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, SettlingSink, check_sink
from realtime_bus_plugins._browser import Page
from realtime_bus_plugins.browser import (
    Browser,
    BrowserCall,
    InterruptPressed,
    PageLost,
    PageResumed,
)
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted

from ._page import Tab, arrive, tabs
from ._wire import Wire

pytestmark = pytest.mark.anyio


def tone(duration_ms: int) -> bytes:
    """Return PCM16 that is never silent."""
    return b"\1\2" * 24 * duration_ms


class Agent:
    """An application whose sessions' other side is the test."""

    def __init__(self, **options: Any) -> None:
        self.wires: list[Wire] = []
        self.sessions: list[Session] = []
        self.interruptions: list[Interruption] = []
        self.events: list[ev.Event] = []
        self.left = 0
        self.browser = Browser(self.talk, **options)
        self._bus = Bus(raise_handler_errors=True)
        self._bus.on(ev.Event)(self.events.append)

    async def talk(self, call: BrowserCall) -> None:
        """Hold one conversation."""
        wire = Wire()
        wire.begin()
        self.wires.append(wire)
        self.interruptions.append(interruption := Interruption(call))
        plugins = [call, interruption]
        async with self._bus.session(wire.transport, plugins=plugins) as session:
            self.sessions.append(session)
            await session.wait_closed()
        self.left += 1

    def all(self, kind: type[Any]) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


async def ready(tab: Tab) -> None:
    """Wait until somebody listens."""
    await tab.until(lambda: tab.latest("started")["ready"])


# --- the sink ------------------------------------------------------------------------------------


def test_a_call_keeps_the_contract_of_sinks() -> None:
    """What a page plays and reports every 10 ms is counted right, to the sample."""
    made: list[Page] = []

    def make() -> AudioSink:
        page = Page(ahead_ms=500)
        made.append(page)
        return BrowserCall(page, {})

    def advance(seconds: float) -> None:
        page = made[-1]
        for _ in range(round(seconds * 100)):
            while page.downlink.next() is not None:
                pass  # what may be sent, is
            before = page.downlink._heard
            page.downlink.played(before + 240)

    check_sink(make, advance=advance, formats=(ev.AudioPCM(), ev.AudioPCMU()))


async def test_audio_goes_out_as_far_ahead_as_is_allowed() -> None:
    """A page gets a second of audio at first, and more as it plays: a flush never stands behind."""
    agent = Agent(ahead_ms=1000)
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        [wire] = agent.wires
        wire.respond()
        wire.speak(tone(5000))
        await tab.until(lambda: tab.received == 24_000)
        tab.say(type="played", position=12_000)
        await tab.until(lambda: tab.received == 36_000)
        [part] = agent.browser.calls[0].positions()
        assert (part.played_ms, part.written_ms) == (500, 5000)
        assert b"".join(tab.audio.values()) == tone(1500)


async def test_a_page_cannot_have_heard_what_was_not_sent() -> None:
    """A position beyond what was sent counts as what was sent."""
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        agent.wires[0].respond()
        agent.wires[0].speak(tone(3000))
        await tab.until(lambda: tab.received == 24_000)
        tab.say(type="played", position=2**32 - 1)
        [call] = agent.browser.calls
        await tab.until(lambda: tab.received == 48_000)
        assert call.positions()[0].played_ms == 1000


async def test_speech_truncates_at_what_the_page_says_it_fell_silent_at() -> None:
    """The session is silent at once; the truncation waits for the page's answer."""
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        [wire] = agent.wires
        wire.respond()
        wire.speak(tone(2000))
        await tab.until(lambda: tab.received == 24_000)
        tab.say(type="played", position=2400)
        [call] = agent.browser.calls
        await tab.until(lambda: tab.received == 26_400)
        wire.frames.clear()
        wire.interrupt()
        assert not call.playing
        [interrupted] = agent.all(PlaybackInterrupted)
        assert interrupted.items[0].played_ms == 100
        assert wire.sent == []
        flush = await tab.until(lambda: [t for t in tab.texts if t["type"] == "flush"])
        assert flush == [{"type": "flush", "before": 48_000}]
        tab.say(type="flushed", before=48_000, position=5000)
        await tab.until(lambda: wire.sent)
        [truncate] = wire.sent
        assert truncate.audio_end_ms == 208  # 5000 samples


@pytest.mark.parametrize("event", ["speech_stopped", "response_create", "nothing"])
async def test_a_page_that_does_not_answer_does_not_hold_a_truncation_up(
    event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the next answer is made, and after a while, what is known has to do."""
    monkeypatch.setattr("realtime_bus_plugins.interruption._SETTLE_S", 0.05)
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        [wire] = agent.wires
        wire.respond()
        wire.speak(tone(2000))
        await tab.until(lambda: tab.received == 24_000)
        tab.say(type="played", position=2400)
        await tab.until(lambda: tab.received == 26_400)
        wire.finish()
        wire.frames.clear()
        if event == "response_create":
            agent.interruptions[0].interrupt(agent.sessions[0])
            agent.sessions[0].respond()
            assert [type(e) for e in wire.sent] == [ev.ConversationItemTruncate, ev.ResponseCreate]
        else:
            wire.interrupt()
        if event == "speech_stopped":
            wire.feed(ev.InputAudioBufferSpeechStopped(audio_end_ms=2000, item_id="user"))
            assert wire.sent
        await tab.until(lambda: wire.sent)
        assert wire.sent[0].audio_end_ms == 100
        tab.say(type="flushed", before=48_000, position=5000)
        await anyio.wait_all_tasks_blocked()
        assert len([e for e in wire.sent if isinstance(e, ev.ConversationItemTruncate)]) == 1


# --- the connection ------------------------------------------------------------------------------


async def test_a_page_that_comes_back_goes_on_where_it_was() -> None:
    """What it has not received comes again, and so does a flush that it has missed."""
    agent = Agent()
    async with tabs() as tasks:
        first = Tab(agent.browser)
        call_id = await arrive(tasks, first)
        await ready(first)
        [wire] = agent.wires
        wire.respond()
        wire.speak(tone(1000))
        await first.until(lambda: first.received == 24_000)
        first.drop()
        await first.until(lambda: agent.all(PageLost))
        second = Tab(agent.browser)
        assert await arrive(tasks, second, call_id, received=10_000) == call_id
        await second.until(lambda: second.received == 24_000)
        assert min(second.audio) == 10_000
        assert second.latest("started") == {
            "type": "started",
            "call": call_id,
            "resumed": True,
            "ready": True,
        }
        second.drop()
        await second.until(lambda: agent.all(PageLost)[1:])
        wire.interrupt()
        third = Tab(agent.browser)
        await arrive(tasks, third, call_id, received=24_000)
        await third.until(lambda: [t for t in third.texts if t.get("who") == "assistant"])
        assert third.latest("flush")["before"] == 24_000
        assert third.audio == {}
        words = [t["text"] for t in third.texts if t.get("who") == "assistant"]
        assert words == ["word "]  # it is told again what was said
    assert [event.code for event in agent.all(PageLost)] == [1006, 1006]
    assert len(agent.all(PageResumed)) == 2
    assert len(agent.sessions) == 1


async def test_the_newest_connection_counts() -> None:
    """A page that comes back before its old connection is known to be lost takes its place."""
    agent = Agent()
    async with tabs() as tasks:
        first, second = Tab(agent.browser), Tab(agent.browser)
        call_id = await arrive(tasks, first)
        await ready(first)
        await arrive(tasks, second, call_id)
        await first.until(lambda: first.closed)
        assert first.closed == 4001
        agent.wires[0].respond()
        agent.wires[0].speak(tone(100))
        await second.until(lambda: second.received == 2400)
        assert len(agent.sessions) == 1
        assert agent.all(PageLost) == []


async def test_a_page_that_stays_away_has_gone() -> None:
    """After keep_s the session is closed, and the call forgotten; its name is worth nothing."""
    agent = Agent(keep_s=0.05)
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        call_id = await arrive(tasks, tab)
        await ready(tab)
        tab.drop()
        await tab.until(lambda: tab.done)
        assert agent.left == 1
        assert agent.browser.calls == []
        again = Tab(agent.browser)
        assert await arrive(tasks, again, call_id) != call_id
        assert again.latest("started")["resumed"] is False


async def test_a_page_that_ends_the_call_has_gone_at_once() -> None:
    """The stop button, and leaving the page, close the session."""
    agent = Agent(keep_s=1000)
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        tab.drop(1000)
        await tab.until(lambda: tab.done)
    assert (agent.left, agent.browser.calls) == (1, [])
    assert agent.all(PageLost) == []


async def test_a_page_that_is_reloaded_as_it_arrives_has_gone_at_once() -> None:
    """It does not know its call's name yet, and can say nothing but goodbye."""
    agent = Agent(keep_s=1000)
    async with tabs() as tasks:
        for _ in range(10):
            tab = Tab(agent.browser)
            tab.say(type="hello")
            tab.drop(1000)
            tasks.start_soon(tab.run)
            await tab.until(lambda tab=tab: tab.done)
    assert agent.browser.calls == []
    assert agent.left == len(agent.wires)


async def test_a_session_that_ends_takes_the_page_along() -> None:
    """What the server's side ends is told to the page, and its connection closed."""
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        await agent.sessions[0].aclose()
        await tab.until(lambda: tab.done)
    assert tab.latest("ended") == {"type": "ended", "reason": "", "failed": False}
    assert tab.closed == 4000


async def test_what_an_application_raises_ends_its_call_only() -> None:
    """The page is told that it cannot go on, not why; the server goes on."""

    async def talk(call: BrowserCall) -> None:
        raise RuntimeError("the secret reason")

    browser = Browser(talk)
    async with tabs() as tasks:
        for _ in range(2):
            tab = Tab(browser)
            await arrive(tasks, tab)
            await tab.until(lambda tab=tab: tab.done)
            assert tab.latest("ended")["failed"]
            assert "secret" not in str(tab.texts)
    assert browser.calls == []


async def test_more_calls_than_there_may_be_are_told_to_try_later() -> None:
    """max_calls counts calls, and a page that comes back is not another one."""
    agent = Agent(max_calls=1)
    async with tabs() as tasks:
        first, second, back = (Tab(agent.browser) for _ in range(3))
        call_id = await arrive(tasks, first)
        tasks.start_soon(second.run)
        second.say(type="hello", call=None)
        await second.until(lambda: second.done)
        assert second.closed == 1013
        assert await arrive(tasks, back, call_id) == call_id


async def test_two_pages_are_two_calls() -> None:
    """Each has its session, and hears nothing of the other."""
    agent = Agent()
    async with tabs() as tasks:
        one, other = Tab(agent.browser), Tab(agent.browser)
        assert await arrive(tasks, one) != await arrive(tasks, other)
        await ready(one)
        await ready(other)
        agent.wires[1].respond()
        agent.wires[1].speak(tone(100))
        await other.until(lambda: other.received)
        assert one.audio == {}


# --- what a page may say -------------------------------------------------------------------------


async def test_the_microphone_reaches_the_session_in_its_format() -> None:
    """Recorded audio is appended in pieces of 20 ms."""
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        for _ in range(3):
            tab.raw(bytes=tone(20))
        await tab.until(lambda: len(agent.wires[0].sent) == 3)
        assert {event.audio for event in agent.wires[0].sent} == {tone(20)}


async def test_crumbs_of_audio_are_put_together() -> None:
    """A page that sends every sample by itself makes no thousands of events a second."""
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        for at in range(0, len(tone(20)), 2):
            tab.raw(bytes=tone(20)[at : at + 2])
            tab.raw(bytes=b"")
        tab.raw(bytes=tone(50))
        await tab.until(lambda: len(agent.wires[0].sent) == 3)
        assert {event.audio for event in agent.wires[0].sent} == {tone(20)}


async def test_a_page_that_sends_faster_than_it_can_record_is_not_believed() -> None:
    """Beyond two seconds and real time, audio is dropped and counted: it costs money."""
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        for _ in range(200):
            tab.raw(bytes=tone(100))
        tab.say(type="interrupt")
        await tab.until(lambda: agent.all(InterruptPressed))
        [call] = agent.browser.calls
        assert call.dropped_chunks > 170


@pytest.mark.parametrize(
    "frame",
    [
        {"text": "{"},
        {"text": "[]"},
        {"text": "\ud800"},
        {"text": '{"type": "unheard of"}'},
        {"text": '{"type": "hello"}'},
        {"text": '{"type": "played"}'},
        {"text": '{"type": "played", "position": -1}'},
        {"text": '{"type": "played", "position": 1e300}'},
        {"text": '{"type": "played", "position": "' + "9" * 5000 + '"}'},
        {"bytes": bytes(961)},
        {"bytes": bytes(64 * 1024 + 2)},
    ],
    ids=lambda frame: str(frame)[:40],
)
async def test_what_no_page_of_ours_says_ends_the_call(frame: dict[str, Any]) -> None:
    """Whoever says such things is somebody else: cut off, and not waited for."""
    agent = Agent(keep_s=1000)
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        tab.raw(**frame)
        await tab.until(lambda: tab.done)
    assert tab.closed == 1008
    assert agent.left == 1


@pytest.mark.parametrize(
    "frame", [{"bytes": b"\0\0"}, {"text": '{"type": "interrupt"}'}, {"text": "?"}]
)
async def test_a_page_says_hello_first(frame: dict[str, Any]) -> None:
    """Anything else is refused before there is a call."""
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        tab.raw(**frame)
        tasks.start_soon(tab.run)
        await tab.until(lambda: tab.done)
    assert tab.closed == 1008
    assert agent.wires == []


async def test_a_page_that_does_not_read_holds_nobody_up() -> None:
    """States of the same kind replace each other while it is slow; audio waits here."""
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        tab.reading = anyio.Event()
        [wire] = agent.wires
        wire.respond()
        for _ in range(500):
            wire.speak(tone(100))
        sent = len(tab.texts)
        tab.reading.set()
        await tab.until(lambda: tab.received == 24_000)
        assert len(tab.texts) - sent < 10
        assert tab.latest("caption")["text"] == "word " * 500


async def test_the_button_is_the_applications() -> None:
    """Pressing it is an event on the bus: interrupting, or not, is decided there."""
    agent = Agent()
    async with tabs() as tasks:
        tab = Tab(agent.browser)
        await arrive(tasks, tab)
        await ready(tab)
        tab.say(type="interrupt")
        await tab.until(lambda: agent.all(InterruptPressed))


# --- who is let in -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "headers", "passes"),
    [
        ({}, {}, True),
        ({}, {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}, True),
        ({}, {"host": "[::1]:8000", "origin": "http://[::1]:8000"}, True),
        ({}, {"host": "LOCALHOST:80", "origin": "http://Localhost:80"}, True),
        ({}, {"origin": ""}, True),  # no browser
        ({}, {"origin": "http://evil.example"}, False),
        ({}, {"origin": "http://localhost:81"}, False),  # another server on this machine
        ({}, {"origin": "http://localhost:80.evil.example"}, False),
        ({}, {"origin": "null"}, False),
        ({}, {"origin": "http://[evil"}, False),
        ({}, {"host": "evil.example", "origin": "http://evil.example"}, False),  # DNS rebinding
        ({}, {"host": ""}, False),
        ({"hosts": ["talk.example"]}, {"host": "talk.example", "origin": ""}, True),
        ({"hosts": ["talk.example"]}, {"host": "talk.example:8443", "origin": ""}, True),
        ({"hosts": ["*"]}, {"host": "any.example", "origin": "https://any.example"}, True),
        ({"origins": ["https://www.example/"]}, {"origin": "https://www.example"}, True),
        ({"origins": ["*"]}, {"origin": "https://any.example"}, True),
    ],
    ids=str,
)
async def test_hosts_and_origins_are_checked(
    options: dict[str, Any], headers: dict[str, str], passes: bool
) -> None:
    """Pages of others, and names of others, are refused before the socket is accepted."""
    agent = Agent(**options)
    async with tabs() as tasks:
        tab = Tab(agent.browser, **headers)
        tab.say(type="hello", call=None)
        tasks.start_soon(tab.run)
        await tab.until(lambda: tab.accepted or tab.done)
        assert tab.accepted is passes


async def fetch(
    browser: Browser, path: str, host: str = "localhost"
) -> tuple[int, dict[str, str], bytes]:
    """Fetch a file, as a browser does."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", host.encode())],
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    await browser(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(each.get("body", b"") for each in sent[1:])


async def test_the_page_is_served_with_its_parts_and_rules() -> None:
    """Everything is a file of ours, small, and the browser is told to take nothing else."""
    browser = Agent().browser
    total = 0
    for path, kind in [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/client.js", "text/javascript"),
        ("/worklet.js", "text/javascript"),
        ("/page.css", "text/css"),
    ]:
        status, headers, body = await fetch(browser, path)
        assert (status, headers["content-type"].partition(";")[0]) == (200, kind)
        assert "script-src 'self'" in headers["content-security-policy"]
        assert b"http://" not in body.replace(b"http://www.w3.org", b"")
        total += len(body)
    assert total < 48 * 1024
    assert (await fetch(browser, "/../browser.py"))[0] == 404
    assert (await fetch(browser, "/", host="evil.example"))[0] == 403


def test_options_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name where several are taken, what is no function, and an extra that is missing."""

    async def talk(call: BrowserCall) -> None: ...

    answer: Callable[[BrowserCall], Awaitable[object]] = talk
    with pytest.raises(UsageError, match=r"write hosts=\['example.com'\]"):
        Browser(answer, hosts="example.com")
    with pytest.raises(UsageError, match="no function"):
        Browser(None)  # type: ignore[arg-type]  # the test is that
    monkeypatch.setitem(sys.modules, "starlette.routing", None)
    with pytest.raises(MissingExtra, match=r"realtime-bus\[browser\]"):
        Browser(answer)


def test_a_call_is_a_sink_that_settles() -> None:
    """`Interruption` waits for what a page says."""
    assert isinstance(BrowserCall(Page(), {}), SettlingSink)


async def test_uvicorn_is_refused_on_trio(anyio_backend: str) -> None:
    """What cannot run there says so, and what to do."""
    serving = Agent().browser.serve()
    if anyio_backend == "trio":
        with pytest.raises(UsageError, match="mount it in another server"):
            await serving.__aenter__()
        return
    async with serving as url:
        assert url.startswith("http://127.0.0.1:")


async def test_it_is_not_served_to_others_by_accident() -> None:
    """Beyond loopback, the names must be said."""
    with pytest.raises(UsageError, match="other machines reach it"):
        async with Agent().browser.serve("0.0.0.0"):  # noqa: S104 - refused
            pass
