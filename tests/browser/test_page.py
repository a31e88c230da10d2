"""What goes wrong around a page, in Chromium: it is survived, and shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from realtime_bus_plugins.browser import InterruptPressed, PageLost, PageResumed

from ._stage import ALLOWED, chromium_with, opened, stage, state

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

_OPENS = """(url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onopen = () => resolve("open");
  socket.onclose = ({ code }) => resolve(code);
})"""


async def notice(page: Any, part: str) -> None:
    """Wait until the page tells the person something."""
    await page.locator("#notice:visible", has_text=part).wait_for()


async def test_buttons_lost_lines_and_devices(
    chromium: str, recording: Callable[..., Path]
) -> None:
    """One long call: hush, mute, a pause of the browser's, a new microphone, a server away."""
    async with (
        stage() as behind,
        chromium_with(chromium, ALLOWED, microphone=recording(120.0)) as browser,
    ):
        page = await opened(browser, behind)
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")  # the start button has the focus
        await state(page, "live")
        [call] = behind.browser.calls
        await behind.until(lambda: call.positions() and call.positions()[0].played_ms > 200)
        await page.keyboard.press("Escape")
        await behind.until(lambda: behind.all(InterruptPressed) and not call.playing)
        await page.locator(".interrupted .rest:not(:empty)").wait_for()

        await page.keyboard.press("m")
        assert await page.get_attribute("#mute", "aria-pressed") == "true"
        assert await page.evaluate("conversation.stream.getAudioTracks()[0].enabled") is False
        await page.click("#mute")
        assert await page.evaluate("conversation.stream.getAudioTracks()[0].enabled") is True

        await page.evaluate("conversation.context.resume = () => {}")  # as if it were refused
        await page.evaluate("conversation.context.suspend()")
        await state(page, "paused")
        await page.evaluate("delete conversation.context.resume")
        await page.click("#resume")
        await state(page, "live")

        await page.evaluate("conversation.stream.getTracks()[0].dispatchEvent(new Event('ended'))")
        await notice(page, "The microphone has changed")
        assert await page.evaluate("conversation.stream.getTracks()[0].readyState") == "live"

        behind.down = True
        await page.evaluate("conversation.socket.close(4999)")
        await state(page, "reconnecting")
        behind.down = False
        await state(page, "live")
        assert [event.code for event in behind.all(PageLost)] == [4999]
        assert len(behind.all(PageResumed)) == len(behind.sessions) == 1

        await behind.sessions[0].aclose()
        await state(page, "ended")
        await page.click("#start")
        await state(page, "live")
        assert len(behind.sessions) == 2
        await page.reload()
        await behind.until(lambda: not behind.browser.calls)  # left: not waited for
        assert page.errors == []


async def test_a_refused_microphone_is_said(chromium: str) -> None:
    """The person is told what to do, and nothing has been opened."""
    async with stage() as behind, chromium_with(chromium, "--deny-permission-prompts") as browser:
        page = await opened(browser, behind)
        await page.click("#start")
        await notice(page, "The microphone is blocked")
        await state(page, "idle")
        assert await page.is_visible("#start")
        assert (page.errors, behind.browser.calls) == ([], [])


async def test_pages_of_others_get_nowhere(chromium: str) -> None:
    """Neither from another origin, nor by a name that was made to lead here, is there a call."""
    flags = (
        "--host-resolver-rules=MAP evil.example 127.0.0.1",
        "--disable-features=LocalNetworkAccessChecks",  # which other browsers have not
    )
    async with stage() as behind, chromium_with(chromium, ALLOWED, *flags) as browser:
        socket = behind.url.replace("http", "ws") + "call"
        page = await browser.new_page()
        await page.goto(behind.url)
        assert await page.evaluate(_OPENS, socket) == "open"
        await page.route("http://127.0.0.1:59998/", lambda route: route.fulfill(body="evil"))
        await page.goto("http://127.0.0.1:59998/")
        assert await page.evaluate(_OPENS, socket) == 1006
        rebound = behind.url.replace("127.0.0.1", "evil.example")
        assert (await page.goto(rebound)).status == 403
        assert await page.evaluate(_OPENS, socket.replace("127.0.0.1", "evil.example")) == 1006


async def test_a_microphone_of_another_rate_is_resampled(chromium: str) -> None:
    """What browsers do not convert, the worklet does: tones pass, what would alias does not."""
    measure = """async ([rate, hertz]) => {
      const context = new OfflineAudioContext(1, rate, rate);
      await context.audioWorklet.addModule("./worklet.js");
      const tone = new OscillatorNode(context, { frequency: hertz });
      const options = { numberOfOutputs: 0 };
      const recorder = new AudioWorkletNode(context, "realtime-bus-recorder", options);
      const chunks = [];
      recorder.port.onmessage = ({ data }) => chunks.push(new Int16Array(data.pcm));
      tone.connect(recorder);
      tone.start();
      await context.startRendering();
      while (chunks.length < 49) await new Promise((done) => setTimeout(done, 5));
      const middle = chunks.slice(10, 40).flatMap((chunk) => Array.from(chunk));
      const power = middle.reduce((sum, sample) => sum + sample * sample, 0) / middle.length;
      return [chunks.length, 10 * Math.log10((power + 1e-9) / (32767 ** 2 / 2))];
    }"""
    async with stage() as behind, chromium_with(chromium) as browser:
        page = await opened(browser, behind)
        for rate, hertz, least, most in [
            (24_000, 1000, -0.1, 0.1),
            (48_000, 1000, -0.1, 0.1),
            (48_000, 9000, -0.5, 0.1),
            (48_000, 15_000, -200, -60),
            (44_100, 1000, -0.1, 0.1),
            (44_100, 16_000, -200, -60),
            (16_000, 3000, -0.1, 0.1),
        ]:
            chunks, level_db = await page.evaluate(measure, [rate, hertz])
            assert chunks in {49, 50}  # a second, but for what the filter holds
            assert least <= level_db <= most, (rate, hertz, level_db)
