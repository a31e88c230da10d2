"""Taps: a plugin sees every frame as it is, in both directions."""

from __future__ import annotations

import json

import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.transport import memory_transport_pair

from ..bus._peer import joined, speech  # noqa: TID252  # tests are no package with a name of its own
from ._doubles import Double, calling

pytestmark = pytest.mark.anyio


class Tap:
    """A plugin that keeps what it sees, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.names: list[dict[str, str]] = []

    def attach(self, session: Session) -> None:
        """Tap all that there is."""
        session.tap(
            received=lambda frame: self.seen.append(("in", frame)),
            sent=lambda frame: self.seen.append(("out", frame)),
            aside=lambda frame, sent: self.seen.append(
                ("aside " + ("out" if sent else "in"), frame)
            ),
            named=self.names.append,
        )

    @property
    def types(self) -> list[str]:
        """Direction and type of what was seen."""
        return [f"{way} {json.loads(frame)['type']}" for way, frame in self.seen]


async def test_frames_that_nobody_listens_to_are_seen() -> None:
    """They come as they are, and are not decoded for it."""
    tap = Tap()
    frame = b'{"type":"rate_limits.updated",  "event_id":"e", "rate_limits":[]}'
    async with joined(Bus(plugins=[tap])) as (session, peer):
        before = session.statistics().frames_skipped
        peer.say(frame, b"no JSON")
        assert session.statistics().frames_skipped == before + 1
    assert tap.seen[1:] == [("in", frame), ("in", b"no JSON")]


async def test_what_is_sent_is_seen_before_its_answer() -> None:
    """Also where the answer comes within the call, as in memory."""
    tap = Tap()
    answer = ev.InputAudioBufferCleared()
    async with joined(Bus(plugins=[tap]), lambda _event: [answer]) as (session, _):
        session.send_nowait(ev.InputAudioBufferClear())
    assert tap.types[1:] == ["out input_audio_buffer.clear", "in input_audio_buffer.cleared"]


async def test_a_frame_is_seen_before_its_handlers() -> None:
    """What a handler sends in return comes behind it."""
    tap = Tap()
    bus = Bus(plugins=[tap])

    @bus.on(ev.InputAudioBufferSpeechStarted)
    def clear(_: ev.InputAudioBufferSpeechStarted, session: Session) -> None:
        session.send_nowait(ev.InputAudioBufferClear())

    async with joined(bus) as (_, peer):
        peer.say(speech(1))
    assert tap.types[1:] == ["in input_audio_buffer.speech_started", "out input_audio_buffer.clear"]


class Failing:
    """A tap that raises, whatever it sees."""

    def attach(self, session: Session) -> None:
        """Tap both directions."""
        session.tap(received=self.fail, sent=self.fail)

    def fail(self, _frame: bytes) -> None:
        """Raise."""
        raise ValueError("a full tap")


async def test_a_tap_that_raises_is_reported_and_harms_nobody() -> None:
    """The frame goes on, to other taps too, and the next one is seen."""
    tap = Tap()
    failed: list[ev.HandlerFailed] = []
    heard: list[int] = []
    bus = Bus(plugins=[Failing(), tap])
    bus.on(ev.HandlerFailed)(failed.append)
    bus.on(ev.InputAudioBufferSpeechStarted)(lambda event: heard.append(event.audio_start_ms))
    async with joined(bus) as (session, peer):
        peer.say(speech(1), speech(2))
        session.send_nowait(ev.InputAudioBufferClear())
        assert len(peer.sent) == 1
    assert heard == [1, 2]
    assert len(tap.seen) == 4
    assert [str(each.error) for each in failed] == ["a full tap"] * 4
    assert "Failing.fail" in failed[0].handler


async def test_a_tap_comes_before_the_first_frame_or_not_at_all() -> None:
    """Half a session would be no recording."""
    async with joined() as (session, _):
        with pytest.raises(UsageError, match=r"call tap\(\) in attach\(\)"):
            session.tap(received=lambda _frame: None)


async def test_a_pair_in_memory_is_seen_in_order() -> None:
    """Question and answer, over a transport that delivers within the call."""
    tap = Tap()
    ours, theirs = memory_transport_pair()
    theirs.send(ev.SessionCreated(session=ev.RealtimeSession(id="s")).to_json())
    async with Bus(plugins=[tap]).session(ours) as session:
        session.send_nowait(ev.InputAudioBufferClear())
        theirs.send(ev.InputAudioBufferCleared().to_json())
    assert tap.types[1:] == ["out input_audio_buffer.clear", "in input_audio_buffer.cleared"]


async def test_a_reconnect_is_seen_in_whole() -> None:
    """What restores the conversation stands aside; afterwards frames go on as before."""
    tap = Tap()
    one, two = Double(1), Double(2)
    async with calling(one, two, bus=Bus(plugins=[tap]), instructions="brief") as (session, _told):
        one.say(*one.add(said("u1")))
        tap.seen.clear()
        back = session.wait_for(ev.Reconnected, timeout_s=5)
        one.hang_up()
        await back
        two.say(speech(3))
        session.send_nowait(ev.InputAudioBufferClear())
    restored = [
        "aside in session.created",
        "aside out session.update",
        "aside out conversation.item.create",
        "aside in session.updated",
        "aside in conversation.item.added",
    ]
    assert tap.types[: len(restored)] == restored
    assert tap.types[-2:] == [
        "in input_audio_buffer.speech_started",
        "out input_audio_buffer.clear",
    ]


def said(item_id: str) -> ev.MessageItem:
    """Return an item of the user's."""
    return ev.MessageItem(id=item_id, role="user", content=[ev.InputText(text="hello")])


async def test_names_are_told_where_the_next_server_gives_its_own() -> None:
    """A recording could not be played again without them."""
    tap = Tap()
    one, two = Double(1), Double(2, ids=lambda item_id: f"there_{item_id}")
    async with calling(one, two, bus=Bus(plugins=[tap])) as (session, _told):
        one.say(*one.add(said("u1")))
        back = session.wait_for(ev.Reconnected, timeout_s=5)
        one.hang_up()
        await back
    assert tap.names == [{"there_u1": "u1"}]
