"""A person talks to the agent in Chromium: real page, real socket, real detector, real voice."""

from __future__ import annotations

import array
from collections.abc import Callable
from pathlib import Path

import pytest

from realtime_bus import events as ev
from realtime_bus_plugins.interruption import PlaybackInterrupted

from ._stage import (
    ALLOWED,
    after,
    chromium_with,
    first_sound,
    opened,
    stage,
    state,
    tapped,
    went_through,
)

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

QUANTUM = 128


async def test_an_interruption_is_truncated_where_the_page_fell_silent(
    chromium: str, recording: Callable[..., Path]
) -> None:
    """Every sample up to the truncation has left the page unchanged; a quantum later, none does."""
    speech = recording(2.0, "Wait! How much rice?", 60.0)
    async with (
        stage() as behind,
        chromium_with(chromium, ALLOWED, microphone=speech) as browser,
    ):
        page = await opened(browser, behind)
        await page.click("#start")
        [cut] = await behind.until(lambda: behind.all(ev.ConversationItemTruncated))
        await page.wait_for_selector(".interrupted .cut:not(:empty)")
        assert "interrupted" in await page.inner_text(".assistant >> nth=0")
        await behind.until(lambda: behind.all(ev.ResponseDone)[1:])
        played = await tapped(page)
        await page.click("#stop")
        await state(page, "ended")
        await behind.until(lambda: behind.sessions[0].close_info)
        assert page.errors == []
    [interrupted] = behind.all(PlaybackInterrupted)
    [told] = interrupted.items
    assert told.played_ms <= cut.audio_end_ms  # known better when the page had answered
    assert told.action == "truncated"
    audio = array.array("h", bytes(behind.spoken[cut.item_id]))
    begin = first_sound(played) - first_sound(audio)
    heard = cut.audio_end_ms * 24
    end = after(played, begin, audio[:heard])
    assert end is not None
    end += 24 + QUANTUM  # milliseconds are rounded down; then a quantum of fading
    assert not any(played[end : end + 2400])
    assert any(audio[heard + 24 + QUANTUM :])  # there was more to be heard


async def test_what_was_heard_holds_over_many_interruptions(
    chromium: str, recording: Callable[..., Path]
) -> None:
    """Each time the button is pressed, the model is told what the loudspeaker got, exactly."""
    async with (
        stage() as behind,
        chromium_with(chromium, ALLOWED, microphone=recording(120.0)) as browser,
    ):
        page = await opened(browser, behind)
        await page.click("#start")
        [call] = await behind.until(lambda: behind.browser.calls)
        for number in range(1, 6):
            await behind.until(lambda: call.positions() and call.positions()[0].played_ms > 100)
            await page.evaluate("conversation.interrupt()")
            await behind.until(
                lambda number=number: len(behind.all(ev.ConversationItemTruncated)) == number
            )
            await behind.until(lambda: behind.sessions[0].active_response_id is None)
            behind.sessions[0].respond()
        await behind.until(lambda: call.playing)
        played = await tapped(page)
    rest = played
    for cut in behind.all(ev.ConversationItemTruncated):
        audio = array.array("h", bytes(behind.spoken[cut.item_id]))
        begin = first_sound(rest) - first_sound(audio)
        end = after(rest, begin, audio[: cut.audio_end_ms * 24])
        assert end is not None
        assert not any(rest[end + 24 + QUANTUM : end + 24 + QUANTUM + 240])
        rest = rest[end + 24 + QUANTUM :]


async def test_a_lost_connection_costs_no_sample(
    chromium: str, recording: Callable[..., Path]
) -> None:
    """The page resumes the call in mid-sentence and plays on: nothing is lost, nothing twice."""
    async with (
        stage("One sentence, which is spoken twice.") as behind,
        chromium_with(chromium, ALLOWED, microphone=recording(60.0)) as browser,
    ):
        page = await opened(browser, behind)
        await page.click("#start")
        [call] = await behind.until(lambda: behind.browser.calls)
        await behind.until(lambda: call.positions() and call.positions()[0].played_ms > 300)
        await page.evaluate("conversation.socket.close(4999)")
        await went_through(page, "reconnecting")
        await state(page, "live")
        await behind.until(lambda: behind.all(ev.ResponseDone) and not call.playing)
        assert behind.browser.calls == [call]
        played = await tapped(page)
        assert page.errors == []
    [spoken] = behind.spoken.values()
    audio = array.array("h", bytes(spoken))
    # a machine that is slow may have had to pause: what is between is silence
    assert [*filter(None, played)] == [*filter(None, audio)]
