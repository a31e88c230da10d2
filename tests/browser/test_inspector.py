"""The inspector's page in Chromium: drawn, zoomed, searched, played and copied from, by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from realtime_bus.inspector import inspection_page
from realtime_bus.recording import Header, Left, Line, Told
from tests.inspector._lines import ANSWER, HOSTILE, QUESTION, conversation, received

from ._stage import FLAGS

pytestmark = pytest.mark.slow

Open = Callable[..., Any]
STAGE = "#stage"


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """One Chromium for all tests; each has a page of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Return what opens the page of some lines; errors and requests of the page fail the test."""
    troubles: list[str] = []
    contexts: list[Any] = []

    def noted(url: str, own: str) -> None:
        if url != own:
            troubles.append(url)

    def opened(lines: list[Line] | None = None, *, audio: bool = True, **options: Any) -> Any:
        path = tmp_path / f"page-{len(contexts)}.html"
        path.write_bytes(inspection_page(lines or conversation(), audio=audio))
        options.setdefault("viewport", {"width": 1280, "height": 800})
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on("request", lambda request: noted(request.url, path.as_uri()))
        page.goto(path.as_uri())
        page.locator("html[data-ready]").wait_for(state="attached")
        page.evaluate("inspector.events.texts.then(() => 0)")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def seen(page: Any) -> list[float]:
    """Return which part is seen, in seconds."""
    return page.evaluate("[inspector.view.start_us / 1e6, inspector.view.stop_us / 1e6]")


def drawn(page: Any) -> None:
    """Wait until what was changed has been drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def until(page: Any, so: str) -> None:
    """Wait until an expression is so; the page's policy forbids Playwright's own waiting."""
    page.evaluate(
        "() => new Promise((done) => {"
        f" const look = () => (({so}) ? done() : setTimeout(look, 20)); look(); }})"
    )


def place(page: Any, seconds: float, lane: str) -> tuple[float, float]:
    """Return where in the window a moment lies in a lane."""
    box = page.locator(STAGE).bounding_box()
    x, y = page.evaluate(
        """([seconds, id]) => {
          const lane = inspector.laneOf[id];
          return [inspector.view.x(seconds * 1e6), lane.top + lane.height / 2];
        }""",
        [seconds, lane],
    )
    return box["x"] + x, box["y"] + y


def shown_json(page: Any, kind: str) -> Any:
    """Return the JSON that is shown, of an event of this type."""
    page.locator("#details-title", has_text=kind).wait_for()
    page.locator("#json span").first.wait_for()
    return json.loads(page.inner_text("#json"))


def test_the_conversation_is_seen_at_once(open_page: Open) -> None:
    """Figures, transcript with its cut, turns with their latencies; something is in every lane."""
    page = open_page()
    assert page.title() == "gpt-realtime"
    figures = page.inner_text("#figures").split("\n")
    assert "0.4ms" in [figure.replace("\u202f", "") for figure in figures]
    entries = page.locator("#transcript .entry")
    assert QUESTION in entries.nth(0).inner_text()
    heard = entries.nth(1).locator("p").inner_text()
    assert heard.startswith("First, warm one litre")
    assert "cut after" in heard
    unheard = entries.nth(1).locator("s.unheard")
    assert ANSWER.endswith(unheard.inner_text())
    assert "line-through" in unheard.evaluate("(s) => getComputedStyle(s).textDecoration")
    assert page.locator("#turns tbody tr").count() == 2
    assert "600" in page.locator("#turns tbody tr").first.inner_text()
    painted = page.evaluate(
        """() => {
          const canvas = document.getElementById("drawn");
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          const pixels = new Uint32Array(data.buffer);
          return Object.entries(inspector.laneOf).map(([id, { top, height }]) => {
            const lane = pixels.subarray((top + 2) * width, (top + height - 2) * width);
            return [id, new Set(lane).size];
          });
        }"""
    )
    assert {lane for lane, found in painted if found < 3} == set()


def test_the_wheel_zooms_around_the_pointer(open_page: Open) -> None:
    """What is under it stays there; with Shift the wheel moves; not beyond the ends."""
    page = open_page()
    x, y = map(round, place(page, 2.7, "heard"))
    page.mouse.move(x, y)
    whole = seen(page)
    left = page.locator(STAGE).bounding_box()["x"]
    under = f"inspector.view.t({x - left}) / 1e6"
    at = page.evaluate(under)
    for _ in range(5):
        page.mouse.wheel(0, -240)
    drawn(page)
    start, stop = seen(page)
    assert stop - start < (whole[1] - whole[0]) / 5
    assert page.evaluate(under) == pytest.approx(at, abs=0.01)
    page.keyboard.down("Shift")
    page.mouse.wheel(0, 200)
    page.keyboard.up("Shift")
    drawn(page)
    assert seen(page)[0] > start
    assert seen(page)[1] - seen(page)[0] == pytest.approx(stop - start)
    for _ in range(30):
        page.mouse.wheel(0, 240)
    drawn(page)
    assert seen(page) == pytest.approx(whole)
    for _ in range(60):
        page.mouse.wheel(0, -240)
    drawn(page)
    assert seen(page)[1] - seen(page)[0] == pytest.approx(0.001)


def test_everything_can_be_done_by_keys(open_page: Open) -> None:
    """Zoom, move, turns, events, search, help; and what has the focus is seen to have it."""
    page = open_page()
    page.keyboard.press("+")
    page.keyboard.press("+")
    drawn(page)
    near = seen(page)
    assert near[1] - near[0] < 2
    page.keyboard.press("ArrowRight")
    drawn(page)
    assert seen(page)[0] > near[0]
    page.keyboard.press("End")
    drawn(page)
    assert seen(page)[1] > 5.9
    page.keyboard.press("Home")
    drawn(page)
    assert seen(page)[0] < 0
    page.keyboard.press("0")
    page.keyboard.press("t")
    assert page.inner_text("#clock") == "0:01.000"
    assert page.get_attribute("#turns tbody tr:first-child", "aria-current") == "true"
    page.keyboard.press("t")
    page.keyboard.press("Shift+T")
    assert page.inner_text("#clock") == "0:01.000"
    assert shown_json(page, "speech_stopped")["audio_end_ms"] == 1500
    page.keyboard.press("n")
    assert shown_json(page, "input_audio_buffer.committed")["item_id"] == "p1"
    page.keyboard.press("p")
    shown_json(page, "speech_stopped")
    assert "speech_stopped" in page.inner_text("#said")
    page.keyboard.press("?")
    page.locator("#help[open]").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("+0td")  # in a field they are letters
    assert page.input_value("#search") == "+0td"
    page.keyboard.press("Escape")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or page.evaluate("document.activeElement === document.body")
    assert {"play", "stage", "search", "theme", "tab-turns", "lane-play", "json"} <= reached


def test_two_fingers_zoom(open_page: Open) -> None:
    """What each of them touched stays under it, and that was no click."""
    page = open_page(has_touch=True)
    touch = page.context.new_cdp_session(page).send
    x, y = place(page, 2.0, "heard")
    places = [{"x": x, "y": y, "id": 1}, {"x": x + 100, "y": y, "id": 2}]
    left = page.locator(STAGE).bounding_box()["x"]

    def under(at_x: float) -> float:
        return page.evaluate(f"inspector.view.t({at_x - left}) / 1e6")

    held = [under(x), under(x + 100)]
    touch("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": places[:1]})
    touch("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": places})
    places = [{"x": x - 50, "y": y, "id": 1}, {"x": x + 250, "y": y, "id": 2}]
    touch("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": places})
    drawn(page)
    assert [under(x - 50), under(x + 250)] == pytest.approx(held, abs=0.01)
    touch("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    drawn(page)
    assert page.evaluate("inspector.view.playhead_us") == 0


def test_lists_are_one_stop_of_tab_each(open_page: Open) -> None:
    """From there arrow keys go on, and Enter goes to the moment."""
    page = open_page()
    page.focus("#transcript button[tabindex='0']")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.inner_text("#clock") == "0:01.700"
    assert page.locator("#transcript button[tabindex='0']").count() == 1
    assert page.locator("#turns button[tabindex='0']").count() == 1
    page.focus("#turns button[tabindex='0']")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.get_attribute("#turns tbody tr:nth-child(2)", "aria-current") == "true"


def test_a_lost_connection_is_shown(open_page: Open) -> None:
    """For how long, and by which event it ended; in a narrow window the JSON is below the lanes."""
    lines = conversation()
    back = {"cause": "lost", "session_id": "sess_2"}
    lines[-1:-1] = [
        Told(t_us=4_500_000, type="bus.reconnecting", event={"attempt": 1}),
        Told(t_us=5_300_000, type="bus.reconnected", event=back),
    ]
    lines.sort(key=lambda line: line.t_us)
    page = open_page(lines, viewport={"width": 600, "height": 900})
    page.mouse.move(*place(page, 5.0, "problems"))
    assert "lost for 800" in page.inner_text("#tip")
    page.mouse.click(*place(page, 5.0, "problems"))
    assert shown_json(page, "bus.reconnected")["cause"] == "lost"
    below = page.locator(STAGE).bounding_box()
    assert page.locator("#json").bounding_box()["y"] < below["y"] + below["height"] + 120


def test_the_ruler_tells_tenths_of_a_millisecond(open_page: Open) -> None:
    """They are cut off, not rounded up to the next millisecond."""
    page = open_page()
    page.evaluate(
        """() => {
          window.ruled = [];
          const write = CanvasRenderingContext2D.prototype.fillText;
          CanvasRenderingContext2D.prototype.fillText = function (text, ...where) {
            window.ruled.push(text);
            return write.call(this, text, ...where);
          };
          inspector.view.set(2_000_000, 2_001_000);
        }"""
    )
    drawn(page)
    assert [text for text in page.evaluate("ruled") if text.startswith("0:02")] == [
        f"0:02.000{tenth}" for tenth in range(0, 10, 2)
    ] + ["0:02.0010"]


def test_a_click_on_a_mark_shows_its_json(open_page: Open) -> None:
    """Events, responses, calls, problems, latencies: what was sent then, to be copied."""
    page = open_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("inspector.view.set(1_400_000, 1_900_000)")
    drawn(page)
    page.mouse.click(*place(page, 1.6, "received"))
    assert shown_json(page, "speech_stopped")["item_id"] == "p1"
    page.click("#copy")
    page.locator("#copy", has_text="Copied").wait_for()
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["audio_end_ms"] == 1500
    page.keyboard.press("0")
    drawn(page)
    for seconds, lane, kind in (
        (2.2, "responses", "response.done"),
        (3.7, "tools", "response.function_call_arguments.done"),
        (4.0, "problems", "error"),
        (4.1, "problems", "bus.drift"),
        (0.5, "person", "input_audio_buffer.speech_started"),
    ):
        page.mouse.click(*place(page, seconds, lane))
        shown_json(page, kind)
    page.mouse.move(*place(page, 3.7, "tools"))
    assert "3 min" in page.inner_text("#tip")
    page.mouse.move(*place(page, 3.5, "generated"))
    assert "never heard" in page.inner_text("#tip")


def test_dragging_moves_and_the_ruler_scrubs(open_page: Open) -> None:
    """The lanes are dragged, the ruler places the playhead, the overview its window."""
    page = open_page()
    page.keyboard.press("+")
    page.keyboard.press("+")
    drawn(page)
    start, stop = seen(page)
    x, y = place(page, (start + stop) / 2, "heard")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 100, y, steps=4)
    page.mouse.up()
    drawn(page)
    assert seen(page)[0] > start
    x, y = place(page, seen(page)[0] + 0.2, "ruler")
    page.mouse.click(x, y)
    at = page.evaluate("inspector.view.playhead_us / 1e6")
    assert at == pytest.approx(seen(page)[0] + 0.2, abs=0.02)
    box = page.locator("#overview").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + 20)
    drawn(page)
    assert seen(page)[0] < 0.8 * 5.9 < seen(page)[1]


def test_searching_finds_events_and_words(open_page: Open) -> None:
    """In their JSON, and in the transcript, on either side of the cut; Enter goes on."""
    page = open_page()
    page.fill("#search", "STOCK")
    page.locator("#found", has_text="said").wait_for()
    assert page.inner_text("#found") == "2 events, 1 said"
    assert page.inner_text("#transcript mark") == "stock"
    assert page.locator("#list .row").count() == 2
    page.keyboard.press("Enter")
    assert shown_json(page, "response.output_audio_transcript")["item_id"] == "a1"
    first = page.inner_text("#about")
    page.keyboard.press("Enter")
    until(page, f"document.getElementById('about').textContent !== {json.dumps(first)}")
    page.fill("#search", "[")
    page.fill("#search", "nothing like that")
    page.locator("#list .empty").wait_for()
    page.keyboard.press("Escape")
    page.locator("#list .empty").wait_for(state="detached")
    assert page.locator("#transcript mark").count() == 0


def test_filters_say_which_events_are_listed(open_page: Open) -> None:
    """Audio is left out at first; the list is walked by arrow keys."""
    page = open_page()
    page.click("#tab-events")
    assert page.locator("#list .row", has_text="input_audio_buffer.append").count() == 0
    page.click("[data-family=audio]")
    page.locator("#list .row", has_text="input_audio_buffer.append").first.wait_for()
    for family in page.locator("#filters button").evaluate_all(
        "(all) => all.map((each) => each.dataset.family)"
    ):
        if family != "errors":
            page.click(f"[data-family={family}]")
    drawn(page)
    kinds = [row.inner_text() for row in page.locator("#list .row .kind").all()]
    assert kinds == ["error", "bus.drift", "invalid frame"]
    page.focus("#list")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert shown_json(page, "bus.drift")["path"] == "response.z"
    chosen = page.get_attribute("#list", "aria-activedescendant")
    assert "bus.drift" in page.inner_text(f"#{chosen}")


def test_both_voices_are_played(open_page: Open) -> None:
    """By button and by key; the playhead moves, and stops where it is told to, and at the end."""
    page = open_page()
    page.keyboard.press("Space")
    until(page, "inspector.player.nodes.size > 0")
    assert page.get_attribute("#play", "aria-pressed") == "true"
    until(page, "inspector.view.playhead_us > 200_000")
    page.keyboard.press("Space")
    assert page.get_attribute("#play", "aria-pressed") == "false"
    assert page.evaluate("inspector.player.nodes.size") == 0
    page.click("[data-source=generated]")
    until(page, "inspector.player.playing && inspector.player.source === 'generated'")
    page.evaluate("inspector.player.seek(5_700_000)")
    until(page, "!inspector.player.playing")
    assert page.inner_text("#clock") == "0:05.900"
    peak = page.evaluate(
        """() => {
          const clip = inspector.clips[0];
          return [Math.max(...clip.chunk(0)), clip.chunk(3)];
        }"""
    )
    assert peak[0] == pytest.approx(0.5, abs=0.03)
    assert peak[1] is None  # silence


def test_without_audio_there_is_nothing_to_play(open_page: Open) -> None:
    """The buttons say so; the voices are drawn all the same."""
    page = open_page(audio=False)
    assert page.is_disabled("#play")
    page.keyboard.press("Space")
    assert not page.evaluate("inspector.player.playing")
    for _ in range(12):
        page.keyboard.press("+")
    drawn(page)


def test_hostile_content_is_text(open_page: Open) -> None:
    """It is seen as it is, everywhere, and nothing of it is run or loaded."""
    lines = conversation(question=HOSTILE, answer=HOSTILE, name=HOSTILE)
    lines[0] = Header(t_us=0, recording_id=HOSTILE, url=HOSTILE, labels={"title": HOSTILE})
    lines[-1:-1] = [received(5850, HOSTILE, item_id=HOSTILE, big="<b>" * 400_000)]
    page = open_page(lines)
    assert HOSTILE in page.evaluate("document.getElementById('title').textContent")
    assert HOSTILE in page.locator("#transcript .entry p").first.evaluate("(p) => p.textContent")
    page.mouse.click(*place(page, 5.85, "received"))
    page.locator("#json button").wait_for()
    page.locator("#json button").click()
    page.click("#tab-events")
    page.fill("#search", HOSTILE[:30])
    page.locator("#list .row").first.wait_for()
    page.mouse.move(*place(page, 3.7, "tools"))
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, iframe, b.x").count() == 0


def test_light_and_dark(open_page: Open) -> None:
    """As the system has it, or as it was chosen; it is remembered."""
    page = open_page(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.click("#theme")
    light = page.evaluate(background)
    assert dark != light
    page.reload()
    page.locator("html[data-ready]").wait_for(state="attached")
    assert page.evaluate(background) == light
    page.keyboard.press("d")
    assert page.evaluate(background) == dark


@pytest.mark.parametrize("width", [1280, 900, 600, 380])
def test_no_width_is_too_narrow(open_page: Open, width: int) -> None:
    """Nothing sticks out sideways, and nothing that can be pressed lies outside of the page."""
    page = open_page(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.locator(".bar button, .tools button, .lane-play").all():
        box = button.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize(
    "lines",
    [
        [Header(t_us=0)],
        [Header(t_us=0), Left(t_us=0, lines=1, bytes=1)],
        [*conversation(), Left(t_us=1 << 61, lines=1, bytes=1)],
    ],
    ids=["nothing", "no time", "73,000 years"],
)
def test_odd_recordings_are_pages_too(open_page: Open, lines: list[Line]) -> None:
    """With nothing in them, or far too much time: no error, and every key does something."""
    page = open_page(lines)
    for key in ("n", "p", "t", "+", "End", "Space", "e", "Home", "c", "-", "0", "?"):
        page.keyboard.press(key)
    drawn(page)
    page.locator("#help[open]").wait_for()
