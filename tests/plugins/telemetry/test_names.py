"""The tables of names: what is told is in them, and they are those of the page."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, HostUnreachable, Reconnect
from realtime_bus import events as ev
from realtime_bus.history import Prices
from realtime_bus_plugins._telemetry import CONTENT, EVENTS, METRICS, SPANS
from realtime_bus_plugins.interruption import Interruption, PlaybackStarted
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools

from ...session._doubles import (  # noqa: TID252  # tests are no package with a name of its own
    AT_ONCE,
    URL,
    Double,
    calling,
    reconnected,
)
from .._wire import Clock, Wire  # noqa: TID252  # the same
from ._sdk import Told, told

PAGE = Path(__file__).parents[3] / "docs" / "opentelemetry.md"


def table(first: str) -> list[list[str]]:
    """Return the cells of a table of the page, without their code marks."""
    text = PAGE.read_text(encoding="utf-8")
    match = re.search(rf"^\| {first} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert match is not None
    rows = [line.strip("| ").split(" | ") for line in match[1].splitlines()]
    return [[cell.replace("`", "").strip(" |") for cell in row] for row in rows]


def names(cell: str) -> list[str]:
    """Return what a cell lists."""
    return [name for name in cell.split(", ") if name]


def test_the_page_names_the_spans() -> None:
    """Their names, parents and what they cover."""
    found = {row[0]: tuple(row[1:]) for row in table("Span")}
    assert found == {
        kind: (shape.name, shape.parent, shape.covers.replace("`", ""))
        for kind, shape in SPANS.items()
    }


def test_the_page_names_the_attributes() -> None:
    """Which span has which, and which hold texts."""
    on: dict[str, list[str]] = defaultdict(list)
    for kind, shape in SPANS.items():
        for name in shape.attributes:
            on[f"{name} ¹" if name in CONTENT else name].append(kind)
    assert {row[0]: names(row[1]) for row in table("Attribute")} == on


def test_the_page_names_the_events() -> None:
    """What is noted, on which span."""
    on: dict[str, list[str]] = defaultdict(list)
    for kind, shape in SPANS.items():
        for name in shape.events:
            on[name].append(kind)
    found = {row[0]: (names(row[1]), names(row[2])) for row in table("Event")}
    assert found == {
        name: (on[name], [f"{each} ¹" if each in CONTENT else each for each in attributes])
        for name, attributes in EVENTS.items()
    }


def test_the_page_names_the_metrics() -> None:
    """Their instruments, units and attributes."""
    found = [(*row[:4], names(row[4]) if len(row) > 4 else []) for row in table("Metric")]
    assert found == [
        (
            metric.name,
            metric.instrument.removeprefix("observable_").replace("_", " "),
            metric.unit,
            metric.description,
            list(metric.attributes),
        )
        for metric in METRICS
    ]


@pytest.mark.anyio
async def test_everything_in_the_tables_is_told_and_nothing_else() -> None:
    """A session with all there is: each name is seen, where the tables have it."""
    with told() as sdk:
        await spoken(sdk)
        seen = await broken(sdk)
        await lost(sdk)
        kinds = {
            "realtime_bus.session": "session",
            "invoke_agent": "turn",
            "chat": "response",
            "execute_tool": "tool call",
        }
        attributes: dict[str, set[str]] = {kind: set() for kind in SPANS}
        noted: dict[str, set[str]] = {kind: set() for kind in SPANS}
        events: dict[str, set[str]] = {name: set() for name in EVENTS}
        for span in sdk.ended:
            kind = kinds[span.name.split()[0]]
            attributes[kind] |= set(span.attributes or {})
            for event in span.events:
                noted[kind].add(event.name)
                events[event.name] |= set(event.attributes or {})
        metrics = {
            name: {key for about, _ in points for key in about}
            for name, points in (seen | sdk.metrics()).items()
        }
    assert attributes == {kind: set(shape.attributes) for kind, shape in SPANS.items()}
    assert noted == {kind: set(shape.events) for kind, shape in SPANS.items()}
    assert events == {name: set(found) for name, found in EVENTS.items()}
    assert metrics == {metric.name: set(metric.attributes) for metric in METRICS}


async def spoken(sdk: Told) -> None:
    """A turn with a tool that fails, that is heard and then interrupted; with prices and texts."""
    clock = Clock()
    sink, tools, wire = NullSink(clock=clock), Tools(), Wire()

    @tools.tool
    async def fail() -> None:
        """Fail."""
        raise ValueError("no")

    telemetry = sdk.telemetry(
        agent_name="cook", texts=True, clock=clock, prices={"m": Prices(output_text=1.0)}
    )
    bus = Bus(plugins=[telemetry, sink, Interruption(sink), tools])
    pcm = ev.AudioPCM()
    audio = ev.AudioConfig(
        input=ev.AudioInputConfig(format=pcm, turn_detection=ev.ServerVad()),
        output=ev.AudioOutputConfig(format=pcm),
    )
    created = ev.RealtimeSession(id="sess_1", model="m", instructions="Cook.", audio=audio)
    wire.feed(ev.SessionCreated(session=created))
    async with bus.session(wire.transport) as session:
        session.emit(ev.Connected(url=URL, session_id=session.id))
        wire.feed(ev.InputAudioBufferSpeechStopped(audio_end_ms=1000, item_id="u"))
        heard = ev.ConversationItemInputAudioTranscriptionCompleted(
            item_id="u", content_index=0, transcript="How long?"
        )
        wire.feed(heard)
        response = ev.Response(
            id="r",
            conversation_id="conv",
            status="in_progress",
            output_modalities=["audio"],
            max_output_tokens=100,
        )
        item = ev.MessageItem(id="a", role="assistant", content=[])
        wire.feed(
            ev.ResponseCreated(response=response),
            ev.ResponseOutputItemAdded(response_id="r", output_index=0, item=item),
            ev.ConversationItemAdded(item=item),
        )
        wire.speak(bytes(48_000))
        place: dict[str, Any] = {"item_id": "t", "output_index": 2, "content_index": 0}
        wire.feed(ev.ResponseOutputTextDelta(response_id="r", delta="Nine", **place))
        with anyio.fail_after(60):
            await session.wait_for(PlaybackStarted)
        call = ev.FunctionCallItem(
            id="f", name="fail", arguments="{}", call_id="c", status="completed"
        )
        answered = session.wait_for("bus.tool_finished", timeout_s=60)
        wire.feed(
            ev.ConversationItemAdded(item=call),
            ev.ResponseOutputItemDone(response_id="r", output_index=1, item=call),
        )
        await answered
        clock.now_s += 0.25
        wire.interrupt()
        usage = ev.Usage(total_tokens=30, input_tokens=20, output_tokens=10)
        failed = ev.Response(
            id="r",
            conversation_id="conv",
            status="failed",
            output=[call],
            usage=usage,
            status_details=ev.StatusDetails(error=ev.StatusError(type="t", code="c")),
        )
        wire.feed(ev.ResponseDone(response=failed))


async def broken(sdk: Told) -> dict[str, Any]:
    """Complaints, failures, full mailboxes, drift, and a connection that is replaced.

    Returns:
        What was measured meanwhile.
    """
    bus = Bus(plugins=[sdk.telemetry(texts=True)])
    forever = anyio.Event()

    @bus.on(ev.RateLimitsUpdated, max_pending=1, overflow="drop_newest")
    async def slow(_event: ev.RateLimitsUpdated) -> None:
        await forever.wait()

    @bus.on(ev.RateLimitsUpdated)
    def fail(_event: ev.RateLimitsUpdated) -> None:
        raise ValueError("no")

    one, two = Double(1), Double(2)
    details = ev.ErrorDetails(type="t", message="m", code="c", param="p")
    async with calling(one, two, bus=bus) as (session, _told):
        one.say(*[ev.RateLimitsUpdated(rate_limits=[])] * 4, ev.Error(error=details))
        one.say(b'{"type":"made.up"}')
        seen = sdk.metrics()
        await reconnected(session, one)
        forever.set()
    return seen


async def lost(sdk: Told) -> None:
    """A connection that is lost for good."""
    refused = HostUnreachable("nobody answers", url=URL)
    policy = Reconnect(first_delay_s=AT_ONCE.first_delay_s, max_delay_s=0.0, attempts=1)
    bus = Bus(plugins=[sdk.telemetry()])
    first = Double(1)
    async with calling(first, refused, bus=bus, reconnect=policy) as (session, _told):
        assert sdk.metrics()["realtime_bus.sessions"] == [({}, 1)]
        first.hang_up()
        with anyio.fail_after(60):
            await session.wait_closed()
