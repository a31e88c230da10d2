"""How fast the inspector's page opens and zooms, in Chromium.

    uv run --group browser python -m benchmarks.inspector

Ten minutes of a conversation, 60,000 events, with audio: the page is written, opened in headless
Chromium, and zoomed by wheel. ``--smoke`` takes half a minute of conversation.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import math
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from realtime_bus.audio import PlayedItem
from realtime_bus.inspector import inspection_page
from realtime_bus.recording import Ended, Flushed, Header, Line, Played, Received, Sent, Told

_CHUNK_MS = 20
_RATE_HZ = 24_000
_TURN_S = 10
_SESSION = {
    "type": "realtime",
    "model": "gpt-realtime",
    "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 500}}},
}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

_OPENED = "opened and drawn in, ms"
_FRAMES = """async () => {
  const frames = [], draws = [];
  const draw = inspector.lanes.draw.bind(inspector.lanes);
  inspector.lanes.draw = () => {
    const from = performance.now();
    draw();
    draws.push(performance.now() - from);
  };
  let last = performance.now(), on = true;
  const step = (now) => {
    frames.push(now - last);
    last = now;
    if (on) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
  window.measured = () => { on = false; return { frames: frames.slice(2), draws }; };
}"""

_PIXELS = """async (png) => {
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes]));
  const { width, height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(image, 0, 0);
  const blob = new Blob([context.getImageData(0, 0, width, height).data]);
  const reader = new FileReader();
  const url = await new Promise((done) => {
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(blob);
  });
  return { width, data: url.split(",")[1] };
}"""


def conversation(minutes: float) -> Iterator[Line]:
    """Yield the lines of a conversation: a question, an answer, an interruption, over and over."""
    spoken = _sound(2.0)
    yield Header(t_us=0, recording_id="synthetic", started_at="2026-01-01T12:00:00+00:00")
    yield _frame(Received, 900, type="session.created", session=_SESSION)
    for tick in range(round(minutes * 60_000 / _CHUNK_MS)):
        t_us = 1000 * _CHUNK_MS * (tick + 1)
        turn, at_ms = divmod(tick * _CHUNK_MS, 1000 * _TURN_S)
        person, item, response = f"person_{turn}", f"item_{turn}", f"resp_{turn}"
        speaks = at_ms < 2000
        yield _append(t_us, _piece(spoken, at_ms) if speaks else bytes(_CHUNK_MS * 48))
        event = {"item_id": item, "response_id": response, "content_index": 0, "output_index": 0}
        if at_ms == 300:
            start_ms = turn * _TURN_S * 1000
            speech = {"item_id": person, "audio_start_ms": start_ms}
            yield _frame(Received, t_us, type="input_audio_buffer.speech_started", **speech)
        if at_ms == 300 and turn:
            cut = PlayedItem(item_id=f"item_{turn - 1}", played_ms=7300, written_ms=9000)
            told = msgspec.to_builtins(cut) | {"received_ms": 9000, "discarded_ms": 1700}
            yield Flushed(t_us=t_us + 80, items=[cut])
            fields = {"items": [told], "latency_s": 0.00008, "audio_start_ms": 0}
            yield Told(t_us=t_us + 90, type="bus.playback_interrupted", event=fields)
        if at_ms == 2500:
            speech = {"item_id": person, "audio_end_ms": turn * _TURN_S * 1000 + at_ms}
            yield _frame(Received, t_us, type="input_audio_buffer.speech_stopped", **speech)
            yield _frame(Received, t_us, type="input_audio_buffer.committed", item_id=person)
            words = {"item_id": person, "transcript": f"Question {turn}?"}
            transcribed = "conversation.item.input_audio_transcription.completed"
            yield _frame(Received, t_us, type=transcribed, content_index=0, **words)
            whole = {"id": response, "status": "in_progress", "conversation_id": "c"}
            yield _frame(Received, t_us, type="response.created", response=whole)
            message = {"id": item, "type": "message", "role": "assistant", "content": []}
            yield _frame(Received, t_us, type="conversation.item.added", item=message)
        if 2900 <= at_ms < 2900 + 180 * _CHUNK_MS:  # 9 s of audio in 50 ms, twice as fast as heard
            if at_ms == 2900:
                yield Told(t_us=t_us, type="bus.playback_started", event={"item_id": item})
                playing = PlayedItem(item_id=item, played_ms=0, written_ms=50)
                yield Played(t_us=t_us, items=[playing])
            delta = _base64(_piece(spoken, (at_ms - 2900) * 5 // 2, 50))
            yield _frame(Received, t_us, type="response.output_audio.delta", delta=delta, **event)
            words = {"delta": f"word {at_ms} "}
            name = "response.output_audio_transcript.delta"
            yield _frame(Received, t_us + 7, type=name, **words, **event)
        elif at_ms > 2900 + 180 * _CHUNK_MS:
            # what fills the ten minutes up to 60,000 events
            yield _frame(
                Received, t_us, type="rate_limits.updated", rate_limits=[{"name": "tokens"}]
            )
        if at_ms == 7000:
            done = {"id": response, "status": "completed", "conversation_id": "c", "output": []}
            yield _frame(Received, t_us, type="response.done", response=done)
    yield Ended(t_us=t_us, code=1000, clean=True)


def _frame(kind: type[Any], t_us: int, **fields: Any) -> Any:
    event = {"event_id": f"event_{t_us}", **fields}
    return kind(t_us=t_us, frame=msgspec.Raw(msgspec.json.encode(event)))


def _append(t_us: int, audio: bytes) -> Sent:
    text = f'{{"type":"input_audio_buffer.append","audio":"{_base64(audio)}"}}'
    return Sent(t_us=t_us, frame=msgspec.Raw(text.encode()))


def _base64(audio: bytes) -> str:
    return base64.b64encode(audio).decode()


def _sound(seconds: float) -> bytes:
    """Return something like speech: a buzz in syllables, with noise."""
    noise = random.Random(1)  # noqa: S311  # no secret
    samples = [
        (3000 * noise.uniform(-1, 1) + 9000 * math.sin(n / 24) + 4000 * math.sin(n / 9))
        * abs(math.sin(n / _RATE_HZ * 9)) ** 2
        for n in range(round(seconds * _RATE_HZ))
    ]
    return struct.pack(f"<{len(samples)}h", *map(int, samples))


def _piece(sound: bytes, at_ms: int, length_ms: int = _CHUNK_MS) -> bytes:
    start = at_ms * 48 % len(sound)
    return (sound + sound)[start : start + length_ms * 48]


def measure(page: Path, browser: str) -> dict[str, Any]:
    """Open a page, zoom it by wheel, and return what was measured, in ms."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # of the group `browser`

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        seen = chromium.new_page(viewport={"width": 1280, "height": 800})
        opened: list[float] = []
        unpacked: list[float] = []
        for _ in range(3):
            began = time.perf_counter()
            seen.goto(page.as_uri())
            seen.locator("html[data-ready]").wait_for(state="attached")
            seen.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
            opened.append((time.perf_counter() - began) * 1000)
            seen.evaluate("inspector.events.texts.then((texts) => texts.length)")
            unpacked.append((time.perf_counter() - began) * 1000)
        seen.evaluate(_FRAMES)
        seen.mouse.move(640, 400)
        for turn in (-120, 120):
            for _ in range(40):
                seen.mouse.wheel(0, turn)
        zoomed = seen.evaluate("measured()")
        found = seen.evaluate("inspector.events.count")
        searched = seen.evaluate(
            "(() => { const from = performance.now(); inspector.list.search('word 3000');"
            " return performance.now() - from; })()"
        )
        chromium.close()
    return {**zoomed, "opened": opened, "unpacked": unpacked, "events": found, "searched": searched}


def run(minutes: float, browser: str, keep: Path | None = None) -> dict[str, float]:
    """Write a page, open it and zoom."""
    lines = list(conversation(minutes))
    began = time.perf_counter()
    page = inspection_page(lines)
    written_s = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_bytes(page)
        if keep is not None:
            keep.write_bytes(page)
        found = measure(path, browser)
    draws, frames = sorted(found["draws"]), sorted(found["frames"])
    return {
        "minutes": minutes,
        "events": found["events"],
        "page, MB": len(page) / 1e6,
        "written in, s": written_s,
        _OPENED: statistics.median(found["opened"]),
        "all JSON unpacked after, ms": statistics.median(found["unpacked"]),
        "a picture while zooming: drawing, median ms": statistics.median(draws),
        "the same, 95 % under": draws[int(0.95 * (len(draws) - 1))],
        "from picture to picture, median ms": statistics.median(frames),
        "the same, 95 % under ": frames[int(0.95 * (len(frames) - 1))],
        "a search, ms": found["searched"],
    }


def picture(path: Path, browser: str) -> None:
    """Hold the demo's conversation, and take the picture of it that is in the docs."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # of the group `browser`

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        demo = [sys.executable, "-m", "realtime_bus", "demo", "--view", "plain", "--wav"]
        subprocess.run([*demo, f"{folder}/demo.wav"], check=True)
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        seen = chromium.new_page(
            viewport={"width": 1280, "height": 816}, device_scale_factor=2, color_scheme="light"
        )
        seen.goto(Path(folder, "demo.html").as_uri())
        seen.locator("html[data-ready]").wait_for(state="attached")
        box = seen.locator("#stage").bounding_box()
        assert box is not None
        x, y = seen.evaluate(
            "(() => { const { left, right, top, bottom } ="
            " inspector.lanes.marks.findLast(({ cut }) => cut);"
            " return [(left + right) / 2, (top + bottom) / 2]; })()"
        )
        seen.mouse.click(box["x"] + x, box["y"] + y)
        seen.locator("#json span").first.wait_for()
        seen.keyboard.press("n")  # from the sink to what the bus told of it
        seen.evaluate("inspector.player.seek(6_500_000); document.activeElement.blur()")
        seen.mouse.move(10, 10)
        png = base64.b64encode(seen.screenshot()).decode()
        pixels = chromium.new_page().evaluate(_PIXELS, png)
        path.write_bytes(_in_few_colours(base64.b64decode(pixels["data"]), pixels["width"]))
        chromium.close()


def _in_few_colours(rgba: bytes, width: int) -> bytes:
    """Return a PNG with a palette: a third of the size."""
    import numpy as np  # noqa: PLC0415  # of the extra `audio`

    pixels = np.frombuffer(rgba, "u1").reshape(-1, 4)[:, :3].astype("i4")
    coarse = (pixels >> 3) @ np.array([1024, 32, 1])
    _, which, counts = np.unique(coarse, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(which, pixels[:, n]) / counts for n in range(3)], axis=1)
    often = np.argsort(-counts)[:256]
    palette = means[often].round()
    nearest = ((means[:, None] - palette[None]) ** 2).sum(axis=2).argmin(axis=1)
    rows = nearest[which].astype("u1").reshape(-1, width)
    raw = np.pad(rows, ((0, 0), (1, 0))).tobytes()  # each row begins with its filter: none
    size = struct.pack(">IIBBBBB", width, len(rows), 8, 3, 0, 0, 0)
    parts = [(b"IHDR", size), (b"PLTE", palette.astype("u1").tobytes())]
    parts += [(b"IDAT", zlib.compress(raw, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return the exit code: 1 if a page of ten minutes takes 2 s to open."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inspector", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="half a minute of conversation")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--keep", type=Path, help="also write the page here")
    parser.add_argument("--picture", type=Path, help="only take the docs' picture, to this place")
    options = parser.parse_args(arguments)
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None or importlib.util.find_spec("playwright") is None:
        print("left out: it needs Chromium, and playwright (uv run --group browser)")
        return 0
    if options.picture is not None:
        picture(options.picture, browser)
        return 0
    figures = run(0.5 if options.smoke else options.minutes, browser, options.keep)
    for name, value in figures.items():
        print(f"{name:48} {value:10,.1f}")
    return int(figures[_OPENED] > 2000)


if __name__ == "__main__":
    sys.exit(main())
