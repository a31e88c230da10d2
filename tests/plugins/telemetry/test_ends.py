"""Telemetry where something else happens: nobody records, a session ends badly, a server lies."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import anyio
import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import INVALID_SPAN, NoOpTracerProvider, StatusCode

from realtime_bus import Bus, HostUnreachable, MissingExtra, Reconnect, Session
from realtime_bus import events as ev
from realtime_bus_plugins.telemetry import Telemetry
from realtime_bus_plugins.tools import Tools

from ...session._doubles import URL, Double, calling  # noqa: TID252  # the same
from .._wire import Wire, session_on  # noqa: TID252  # tests are no package with a name of its own
from ._sdk import Told, told

pytestmark = pytest.mark.anyio


@pytest.fixture
def sdk() -> Generator[Told]:
    """Give an SDK, and see that every span has an end."""
    with told() as found:
        yield found


@pytest.mark.parametrize("given", [True, False], ids=["no-op providers", "no SDK"])
async def test_where_nobody_records_it_listens_to_nothing(given: bool) -> None:
    """No handler, no interceptor, no tap: a frame that nobody wants is not even decoded."""
    options: dict[str, Any] = {}
    if given:
        options = {
            "tracer_provider": NoOpTracerProvider(),
            "meter_provider": NoOpMeterProvider(),
        }
    telemetry = Telemetry(**options)
    wire = Wire()
    wire.begin()
    async with Bus(plugins=[telemetry]).session(wire.transport) as session:
        assert session.statistics().handlers == []
        before = session.statistics().frames_skipped
        wire.feed(
            ev.ResponseOutputTextDelta(
                response_id="r", item_id="i", output_index=0, content_index=0, delta="x"
            )
        )
        assert session.statistics().frames_skipped == before + 1
        assert not telemetry.span(session).is_recording()


async def test_a_session_that_is_not_sampled() -> None:
    """Without metrics it is as if nobody recorded."""
    with told(ALWAYS_OFF) as sdk:
        telemetry = Telemetry(tracer_provider=sdk.tracers, meter_provider=NoOpMeterProvider())
        async with session_on(telemetry) as (session, _wire):
            assert session.statistics().handlers == []
        assert sdk.ended == []
        async with session_on(sdk.telemetry()) as (session, wire):
            wire.respond()
            wire.finish()
        assert sdk.ended == []
        assert sdk.total("realtime_bus.turns") == 1


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    for name in [name for name in sys.modules if "_telemetry" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("realtime_bus_plugins._telemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(MissingExtra, match=r"realtime-bus\[otel\]"):
        Telemetry()


async def test_a_session_without_the_plugin(sdk: Told) -> None:
    """Its span records nothing."""
    telemetry = sdk.telemetry()
    async with session_on() as (session, _wire):
        assert telemetry.span(session) is INVALID_SPAN


class Abandoned(Exception):  # noqa: N818  # what a test raises
    """What the block raises."""


@pytest.mark.parametrize("end", ["left", "raised", "cancelled", "lost", "closed"])
async def test_every_span_has_an_end(sdk: Told, end: str) -> None:
    """However a session ends, in the middle of a response and of a call."""
    tools = Tools()
    working = anyio.Event()

    @tools.tool
    async def wait() -> None:
        """Wait."""
        working.set()
        await anyio.sleep_forever()

    bus = Bus(plugins=[sdk.telemetry(), tools])

    async def run(session: Session, wire: Wire) -> None:
        wire.respond()
        item = ev.FunctionCallItem(
            id="f", name="wait", arguments="{}", call_id="c", status="completed"
        )
        wire.feed(
            ev.ConversationItemAdded(item=item),
            ev.ResponseOutputItemDone(response_id="r", output_index=1, item=item),
        )
        await working.wait()
        wire.respond("r2", "b")
        if end == "raised":
            raise Abandoned
        if end == "cancelled":
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        if end == "lost":
            wire.transport.end(1006, "gone")
            await session.wait_closed()
        if end == "closed":
            await session.aclose(1001)

    wire = Wire()
    wire.begin()
    with anyio.CancelScope() as scope:
        try:
            async with bus.session(wire.transport) as session:
                await run(session, wire)
        except Abandoned:
            assert end == "raised"
    assert sdk.open == []
    names = sorted(span.name.split()[0] for span in sdk.ended)
    assert names == ["chat", "chat", "execute_tool", "invoke_agent", "realtime_bus.session"]
    whole = sdk.span("realtime_bus.session")
    assert sdk.ended[-1] is whole
    broken = whole.status.status_code is StatusCode.ERROR
    assert broken == (end in ("lost", "cancelled"))  # nobody answers its close in time
    outcome = (sdk.span("execute_tool").attributes or {})["realtime_bus.tool.outcome"]
    assert outcome == ("interrupted" if end == "cancelled" else "unanswered")


async def test_a_session_that_does_not_begin(sdk: Told) -> None:
    """A later plugin refuses, or the server does: its span is ended as well."""

    class Refusing:
        def attach(self, _session: Session) -> None:
            raise Abandoned

    with pytest.raises(Abandoned):
        async with session_on(sdk.telemetry(), Refusing()):
            pass
    assert len(sdk.spans("realtime_bus.session")) == 1
    wire = Wire()
    wire.transport.end(1008, "no")
    with pytest.raises(Exception, match="1008"):
        async with Bus(plugins=[sdk.telemetry()]).session(wire.transport):
            pass
    assert len(sdk.spans("realtime_bus.session")) == 2


async def test_a_connection_that_is_lost_for_good(sdk: Told) -> None:
    """What was tried is noted, and the session has failed."""
    first = Double(1)
    refused = HostUnreachable("nobody answers", url=URL)
    bus = Bus(plugins=[sdk.telemetry()])
    policy = Reconnect(first_delay_s=0.0, max_delay_s=0.0, attempts=2)
    async with calling(first, refused, refused, bus=bus, reconnect=policy) as (session, _told):
        first.hang_up()
        with anyio.fail_after(60):
            await session.wait_closed()
    tries = sdk.events("realtime_bus.reconnecting")
    assert [each["realtime_bus.reconnect.attempt"] for each in tries] == [1, 2]
    [failed] = sdk.events("realtime_bus.reconnect_failed")
    assert failed["realtime_bus.reconnect.attempts"] == 2
    assert failed["exception.type"] == "HostUnreachable"
    assert sdk.span("realtime_bus.session").status.status_code is StatusCode.ERROR
    assert sdk.total("realtime_bus.reconnects", realtime_bus_reconnect_cause="failed") == 1


async def test_a_server_that_begins_without_end(sdk: Told) -> None:
    """What is open is bounded, whatever the server begins."""
    wire = Wire()
    wire.begin()
    async with Bus(plugins=[sdk.telemetry()]).session(wire.transport):
        for number in range(1000):
            wire.respond(f"r{number}", f"a{number}")
            item = ev.FunctionCallItem(
                id=f"f{number}", name=f"n{number}", arguments="{}", call_id=f"c{number}"
            )
            wire.feed(
                ev.ResponseOutputItemDone(response_id=f"r{number}", output_index=0, item=item)
            )
        assert len(sdk.open) < 64 + 256 + 40
    assert len(sdk.spans("chat")) == 1000


async def test_a_server_that_sends_nonsense(sdk: Told, caplog: pytest.LogCaptureFixture) -> None:
    """Raw data where objects should be costs an attribute, and raises nothing."""
    wire = Wire()
    wire.begin()
    bus = Bus(plugins=[sdk.telemetry(texts=True)], raise_handler_errors=True)
    async with bus.session(wire.transport):
        for frame in (
            b'{"type":"response.created","response":3}',
            b'{"type":"response.created","response":{"id":7,"output_modalities":{"audio":1}}}',
            (
                b'{"type":"response.created","response":{"id":"r","output_modalities":"audio",'
                b'"max_output_tokens":"many"}}'
            ),
            b'{"type":"response.output_audio.delta","response_id":["r"],"delta":5}',
            (
                b'{"type":"response.output_item.done","response_id":"r","item":{"type":"function_call",'
                b'"name":[],"arguments":{},"call_id":{}}}'
            ),
            (
                b'{"type":"response.output_item.done","response_id":"r","item":{"type":"mcp_call",'
                b'"id":"m","name":"\\ud800","arguments":null,"error":"x"}}'
            ),
            (
                b'{"type":"conversation.item.input_audio_transcription.completed","item_id":["u"],'
                b'"usage":[],"transcript":{}}'
            ),
            b'{"type":"error","error":"oh"}',
            b'{"type":"error","error":{"code":["x"],"type":{},"message":3}}',
            (
                b'{"type":"response.done","response":{"id":"r","status":"failed","output":3,'
                b'"status_details":{"error":[1]},"usage":{"input_tokens":"5"}}}'
            ),
            b'{"type":"response.done","response":[]}',
        ):
            wire.transport.feed(frame)
    assert len(sdk.spans("realtime_bus.session")) == 1
    assert [r.message for r in caplog.records if r.name.startswith("opentelemetry")] == []


class Raising(SpanProcessor):
    """An SDK's processor with a defect."""

    def __init__(self, *, begins: bool) -> None:
        self.begins = begins

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Fail, if it is to fail at once."""
        if self.begins:
            raise RuntimeError("no exporter today")

    def on_end(self, span: Any) -> None:
        """Fail."""
        raise RuntimeError("no exporter today")


@pytest.mark.parametrize("begins", [True, False])
async def test_an_exporter_that_raises(begins: bool) -> None:
    """Its defect is told, costs no call and refuses no command."""
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(Raising(begins=begins))
    telemetry = Telemetry(tracer_provider=tracers, meter_provider=NoOpMeterProvider())
    wire = Wire()
    wire.begin()
    item = ev.FunctionCallItem(id="f", name="look", arguments="{}", call_id="c")
    output = ev.FunctionCallOutputItem(call_id="c", output="")
    async with Bus(plugins=[telemetry]).session(wire.transport) as session:
        wire.respond()
        wire.feed(ev.ResponseOutputItemDone(response_id="r", output_index=1, item=item))
        session.send_nowait(ev.ConversationItemCreate(item=output))
        wire.finish()
        assert [event.type for event in wire.sent] == ["conversation.item.create"]
        assert session.conversation.active_response_id is None
    tracers.shutdown()


async def test_an_sdk_that_was_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as if there was none."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with told() as sdk:
        async with session_on(sdk.telemetry()) as (session, _wire):
            assert session.statistics().handlers == []


async def test_a_session_that_translates(sdk: Told) -> None:
    """It has no turns: one span, and what was counted."""
    wire = Wire()
    created = ev.translation.SessionCreated(
        session=ev.translation.TranslationSession(id="sess_t", model="t")
    )
    wire.transport.feed(created.to_json())
    bus = Bus(plugins=[sdk.telemetry()], raise_handler_errors=True)
    async with bus.session(wire.transport, protocol="translation"):
        pass
    assert len(sdk.ended) == 1
    attributes = sdk.span("realtime_bus.session").attributes or {}
    assert attributes["realtime_bus.session.kind"] == "translation"
    assert attributes["gen_ai.request.model"] == "t"


async def test_names_that_a_server_makes_up_are_short(sdk: Told) -> None:
    """Megabytes in a name or a complaint are cut; ids have a limit anyway."""
    long = "x" * 1_000_000
    async with session_on(sdk.telemetry()) as (_session, wire):
        wire.respond()
        item = ev.FunctionCallItem(id="f", name=long, arguments="{}", call_id="c")
        wire.feed(ev.ResponseOutputItemDone(response_id="r", output_index=1, item=item))
        details = ev.ErrorDetails(type=long, message=long, code=long, param=long)
        wire.feed(ev.Error(error=details))
    assert len(sdk.ended) == 4
    for span in sdk.ended:
        assert len(span.name) <= 100
        told_of = [span.attributes or {}, *(event.attributes or {} for event in span.events)]
        assert all(len(str(value)) <= 1000 for found in told_of for value in found.values())
