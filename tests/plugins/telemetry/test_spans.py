"""Sessions as spans: which there are, under which, and what they say."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.history import Prices
from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTurn, Text, ToolCall
from realtime_bus_plugins.interruption import Interruption, PlaybackStarted
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools

from .._wire import Clock, Wire, session_on  # noqa: TID252  # tests are no package with a name of its own
from ._sdk import Told, told

pytestmark = pytest.mark.anyio

SECOND = bytes(48_000)
STOPPED = ev.InputAudioBufferSpeechStopped(audio_end_ms=1000, item_id="u")


@pytest.fixture
def sdk() -> Generator[Told]:
    """Give an SDK, and see that every span has an end."""
    with told() as found:
        yield found


def current() -> str:
    """Return the name of the current span."""
    return str(getattr(trace.get_current_span(), "name", ""))


class Clerk:
    """A responder that calls a tool, then writes what came of it."""

    async def respond(self, request: Any) -> Any:
        """Call first, and answer once the output is there."""
        if any(isinstance(item, ev.FunctionCallOutputItem) for item in request.items):
            yield Text("It is nine.")
        elif request.items:
            yield ToolCall("clock", '{"zone": "mars"}', "call_1")
        else:
            yield Text("Good evening.")


async def ask(session: Session) -> None:
    """Ask, and wait for the answer that follows the tool."""
    answered = session.wait_for(
        ev.ResponseDone, where=lambda event: not calls(event.response), timeout_s=60
    )
    await session.send_text("What time is it?")
    session.respond()
    await answered


def calls(response: Any) -> bool:
    """Tell whether a response calls a function."""
    return any(isinstance(item, ev.FunctionCallItem) for item in response.output)


async def test_a_turn_with_a_tool_call(sdk: Told) -> None:
    """The session is under the caller's span; in it are a turn, its two responses and the call."""
    tools = Tools()

    @tools.tool
    async def clock(zone: str) -> str:
        """Tell the time."""
        with sdk.within("database"):
            return f"21:00 {zone}"

    bus = Bus(plugins=[sdk.telemetry(agent_name="clerk"), tools], raise_handler_errors=True)
    server = RealtimeServer(Clerk())
    async with server.connect_memory() as transport:
        with sdk.within("POST /call"):
            async with bus.session(transport, output_modalities=["text"]) as session:
                await ask(session)
                assert current() == "POST /call"
                session_id = session.id
    whole, turn = sdk.span("realtime_bus.session"), sdk.span("invoke_agent clerk")
    first, second = sdk.spans("chat local")
    call = sdk.span("execute_tool clock")
    assert [sdk.parent(span) for span in (whole, turn, first, second, call)] == [
        "POST /call",
        "realtime_bus.session",
        *["invoke_agent clerk"] * 3,
    ]
    assert sdk.parent(sdk.span("database")) == "execute_tool clock"
    assert len({span.context.trace_id for span in sdk.ended}) == 1
    assert [whole.kind, turn.kind, first.kind, call.kind] == [
        SpanKind.INTERNAL,
        SpanKind.INTERNAL,
        SpanKind.CLIENT,
        SpanKind.INTERNAL,
    ]
    assert whole.start_time <= turn.start_time <= first.start_time <= call.start_time
    assert call.end_time <= second.start_time <= second.end_time <= turn.end_time
    assert turn.end_time <= whole.end_time
    assert dict(whole.attributes or {}) == {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "local",
        "gen_ai.response.model": "local",
        "realtime_bus.session.id": session_id,
        "realtime_bus.session.kind": "realtime",
        "realtime_bus.session.close_code": 1000,
        "realtime_bus.session.turns": 1,
        "realtime_bus.session.reconnects": 0,
    }
    said, did = turn.attributes or {}, call.attributes or {}
    assert said["realtime_bus.turn.origin"] == "text"
    assert said["realtime_bus.turn.tool_round_trips"] == 1
    tokens = [(span.attributes or {})["gen_ai.usage.input_tokens"] for span in (first, second)]
    assert said["gen_ai.usage.input_tokens"] == sum(tokens)  # type: ignore[arg-type]  # they are numbers
    assert (first.attributes or {})["gen_ai.response.finish_reasons"] == ("tool_call",)
    assert (second.attributes or {})["gen_ai.response.finish_reasons"] == ("stop",)
    assert (second.attributes or {})["gen_ai.response.time_to_first_chunk"] >= 0  # type: ignore[operator]  # a number
    assert (did["gen_ai.tool.call.id"], did["gen_ai.tool.type"]) == ("call_1", "function")
    assert (did["realtime_bus.tool.outcome"], call.status.status_code) == (
        "succeeded",
        StatusCode.UNSET,
    )


async def test_the_current_span(sdk: Told) -> None:
    """Handlers find their session's, tools their call's, in a thread, too; tasks their caller's."""
    tools = Tools()
    found: dict[str, str] = {}

    @tools.tool
    def clock(zone: str) -> str:
        """Tell the time, in a thread."""
        found["thread"] = current()
        return zone

    bus = Bus(plugins=[sdk.telemetry(), tools], raise_handler_errors=True)
    telemetry = sdk.telemetry()

    @bus.on(ev.ResponseDone)
    def plain(_event: ev.ResponseDone, session: Session) -> None:
        found["plain"] = current()
        session.start_soon(task)

    @bus.on(ev.ResponseDone)
    async def queued(_event: ev.ResponseDone) -> None:
        found["queued"] = current()

    @bus.on(ev.ResponseDone, mode="eager")
    async def eager(_event: ev.ResponseDone) -> None:
        found["eager"] = current()

    @bus.on(ev.Closed)
    def closed(_event: ev.Closed) -> None:
        found["closed"] = current()

    async def task() -> None:
        found["task"] = current()

    async with RealtimeServer(Clerk()).connect_memory() as transport:
        with sdk.within("caller"):
            async with bus.session(
                transport, plugins=[telemetry], output_modalities=["text"]
            ) as session:
                await ask(session)
                with trace.use_span(telemetry.span(session)):
                    found["block"] = current()
            assert current() == "caller"
    assert found.pop("thread") == "execute_tool clock"
    assert found == dict.fromkeys(
        ["plain", "queued", "eager", "closed", "task", "block"], "realtime_bus.session"
    )


async def test_sessions_are_traces_of_their_own(sdk: Told) -> None:
    """Many on one bus, in tasks: each finds its own span in its handlers, whoever feeds it."""
    bus = Bus(plugins=[sdk.telemetry()], raise_handler_errors=True)
    found: dict[int, set[int]] = {}

    @bus.on(ev.ResponseDone)
    async def note(_event: ev.ResponseDone, session: Session) -> None:
        ids = found.setdefault(session.state, set())
        ids.add(trace.get_current_span().get_span_context().span_id)

    server = RealtimeServer(Clerk())

    async def call(number: int) -> None:
        async with (
            server.connect_memory() as transport,
            bus.session(transport, state=number, output_modalities=["text"]) as session,
        ):
            for _ in range(3):
                await session.respond()

    async with anyio.create_task_group() as calling:
        for number in range(8):
            calling.start_soon(call, number)
    sessions = {span.context.span_id for span in sdk.spans("realtime_bus.session")}
    assert len(sessions) == 8
    assert sorted(found) == list(range(8))
    assert {next(iter(ids)) for ids in found.values() if len(ids) == 1} == sessions
    assert len({span.context.trace_id for span in sdk.ended}) == 8


async def test_a_barge_in(sdk: Told) -> None:
    """The turn says how long everything took, what was heard, and when it was interrupted."""
    clock = Clock()
    sink = NullSink(clock=clock)
    telemetry = sdk.telemetry(clock=clock)
    async with session_on(telemetry, sink, Interruption(sink)) as (session, wire):
        wire.feed(STOPPED)
        clock.now_s += 0.5
        wire.respond()
        clock.now_s += 0.125
        wire.speak(SECOND)
        with anyio.fail_after(60):
            await session.wait_for(PlaybackStarted)
        clock.now_s += 0.25
        wire.interrupt()
        wire.finish()
    turn, response = sdk.span("invoke_agent"), sdk.span("chat")
    said = dict(turn.attributes or {})
    latency_s: Any = said.pop("realtime_bus.turn.barge_in_latency")
    assert 0 < latency_s < 30
    assert {name: value for name, value in said.items() if "turn" in name} == {
        "realtime_bus.turn.origin": "speech",
        "realtime_bus.turn.status": "completed",
        "realtime_bus.turn.interrupted": True,
        "realtime_bus.turn.tool_round_trips": 0,
        "realtime_bus.turn.first_audio": 0.625,
        "realtime_bus.turn.audio_to_heard": 0.0,
        "realtime_bus.turn.heard": 0.625,
        "realtime_bus.turn.generated_audio": 1.0,
        "realtime_bus.turn.heard_audio": 0.25,
    }
    assert (turn.end_time - turn.start_time) / 1e9 == pytest.approx(0.875)
    assert (response.end_time - response.start_time) / 1e9 == pytest.approx(0.375)
    assert (response.attributes or {})["gen_ai.response.time_to_first_chunk"] == 0.125
    [barge_in] = sdk.events("realtime_bus.barge_in")
    assert barge_in == {
        "realtime_bus.barge_in.latency": latency_s,
        "realtime_bus.barge_in.played": 0.25,
        "realtime_bus.barge_in.discarded": 0.75,
    }
    metrics = sdk.metrics()
    assert metrics["realtime_bus.audio.generated"] == [({}, 1.0)]
    assert metrics["realtime_bus.audio.heard"] == [({}, 0.25)]
    assert metrics["realtime_bus.barge_in.latency"] == [({}, (1, latency_s))]
    [(about, (count, total))] = metrics["realtime_bus.turn.heard"]
    assert (about, count, total) == ({"realtime_bus.turn.origin": "speech"}, 1, 0.625)


async def test_responses_out_of_band_are_under_the_session(sdk: Told) -> None:
    """They are in no turn."""
    bus = Bus(plugins=[sdk.telemetry()], raise_handler_errors=True)
    async with (
        RealtimeServer(Clerk()).connect_memory() as transport,
        bus.session(transport, output_modalities=["text"]) as session,
    ):
        await session.respond(conversation="none", input=[])
    response = sdk.span("chat")
    assert sdk.parent(response) == "realtime_bus.session"
    assert (response.attributes or {})["realtime_bus.response.out_of_band"] is True
    assert sdk.spans("invoke_agent") == []


def done(status: Any, **details: Any) -> ev.ResponseDone:
    """Return the end of response r."""
    found = ev.StatusDetails(**details) if details else None
    return ev.ResponseDone(response=ev.Response(id="r", status=status, status_details=found))


@pytest.mark.parametrize(
    ("event", "reason", "error_type"),
    [
        (done("completed"), "stop", None),
        (done("cancelled", reason="turn_detected"), "turn_detected", None),
        (done("cancelled", reason="client_cancelled"), "client_cancelled", None),
        (done("incomplete", reason="max_output_tokens"), "length", None),
        (done("incomplete", reason="content_filter"), "content_filter", None),
        (done("failed", error=ev.StatusError(type="server_error", code="c")), "error", "c"),
        (done("failed", error=ev.StatusError(type="server_error")), "error", "server_error"),
        (done("failed"), "error", "_OTHER"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_how_a_response_ends(
    sdk: Told, event: ev.ResponseDone, reason: str, error_type: str | None
) -> None:
    """Only one that failed is an error; the conventions' words are used where they have one."""
    async with session_on(sdk.telemetry()) as (_session, wire):
        wire.respond()
        wire.feed(event)
    span = sdk.span("chat")
    assert (span.attributes or {})["gen_ai.response.finish_reasons"] == (reason,)
    assert (span.attributes or {}).get("error.type") == error_type
    failed = span.status.status_code is StatusCode.ERROR
    assert failed == (error_type is not None)


async def test_a_response_that_was_killed_at_once(sdk: Told) -> None:
    """One that ends without having begun has a span of no length."""
    async with session_on(sdk.telemetry()) as (_session, wire):
        wire.feed(done("cancelled", reason="turn_detected"))
    span = sdk.span("chat")
    assert span.start_time == span.end_time


async def test_complaints_and_failures(sdk: Told) -> None:
    """The server's errors, failed handlers and full mailboxes are noted on the session."""
    bus = Bus(plugins=[sdk.telemetry()])
    blocked = anyio.Event()

    @bus.on(ev.RateLimitsUpdated, name="broken")
    def broken(event: ev.RateLimitsUpdated) -> None:
        raise ValueError(event.event_id)

    @bus.on(ev.RateLimitsUpdated, name="slow", max_pending=1, overflow="drop_newest")
    async def slow(_event: ev.RateLimitsUpdated) -> None:
        await blocked.wait()

    details = ev.ErrorDetails(type="invalid_request_error", message="no", code="bad", param="a.b")
    wire = Wire()
    wire.begin()
    async with bus.session(wire.transport) as session:
        wire.feed(
            *[ev.RateLimitsUpdated(event_id="secret", rate_limits=[])] * 4, ev.Error(error=details)
        )
        blocked.set()
        await anyio.lowlevel.checkpoint()
        assert session.last_error is not None
    assert sdk.events("realtime_bus.error") == [
        {
            "realtime_bus.error.code": "bad",
            "realtime_bus.error.type": "invalid_request_error",
            "realtime_bus.error.param": "a.b",
        }
    ]
    failures = sdk.events("realtime_bus.handler_failed")
    assert len(failures) == 4
    assert failures[0]["realtime_bus.handler"] == "broken"
    assert failures[0]["realtime_bus.event.type"] == "rate_limits.updated"
    assert failures[0]["exception.type"] == "ValueError"
    assert "in broken" in failures[0]["exception.stacktrace"]
    assert "secret" not in str(failures)
    [overflow] = sdk.events("realtime_bus.overflow")
    assert overflow["realtime_bus.handler"] == "slow"
    assert sdk.span("realtime_bus.session").status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("outcome", "error_type"),
    [("failed", "ValueError"), ("timed_out", "timeout"), ("invalid", "invalid_arguments")],
)
async def test_a_tool_that_fails(sdk: Told, outcome: str, error_type: str) -> None:
    """Its call is an error; what it raised is noted without its words."""
    tools = Tools()
    annotation = int if outcome == "invalid" else str

    async def clock(zone: Any) -> str:
        """Tell the time."""
        if outcome == "failed":
            raise ValueError(f"no zone {zone}")
        await anyio.sleep_forever()
        return ""

    clock.__annotations__["zone"] = annotation
    tools.tool(timeout_s=0.01)(clock)
    bus = Bus(plugins=[sdk.telemetry(), tools])
    async with (
        RealtimeServer(Clerk()).connect_memory() as transport,
        bus.session(transport, output_modalities=["text"]) as session,
    ):
        await ask(session)
    call = sdk.span("execute_tool clock")
    assert (call.attributes or {})["realtime_bus.tool.outcome"] == outcome
    assert (call.attributes or {})["error.type"] == error_type
    assert call.status.status_code is StatusCode.ERROR
    assert "mars" not in str(call.attributes) + str(call.events)
    assert bool(call.events) == (outcome == "failed")


@pytest.mark.breaks_rules("call-answered-once")
async def test_tools_of_the_server_and_by_hand(sdk: Told) -> None:
    """An MCP call lasts while the server runs it; a call that is answered by hand, until then."""
    clock = Clock()
    place: dict[str, Any] = {"response_id": "r", "output_index": 1}
    mcp = ev.McpCallItem(id="mcp_1", server_label="shop", name="find", arguments="{}", output="x")
    function = ev.FunctionCallItem(id="f", name="look", arguments="{}", call_id="call_1")
    async with session_on(sdk.telemetry(clock=clock)) as (session, wire):
        wire.respond()
        wire.feed(ev.ResponseMcpCallInProgress(item_id="mcp_1", output_index=1))
        clock.now_s += 2.0
        wire.feed(ev.ResponseOutputItemDone(**place, item=mcp))
        wire.feed(ev.ResponseOutputItemDone(**place, item=function))
        clock.now_s += 0.5
        output = ev.FunctionCallOutputItem(call_id="call_1", output="y")
        session.send_nowait(ev.ConversationItemCreate(item=output))
        session.send_nowait(ev.ConversationItemCreate(item=output))  # again, for no call
        wire.finish()
    found = {
        span.name: ((span.end_time - span.start_time) / 1e9, sdk.parent(span))
        for span in sdk.spans("execute_tool")
    }
    assert found == {
        "execute_tool find": (pytest.approx(2.0), "invoke_agent"),
        "execute_tool look": (pytest.approx(0.5), "invoke_agent"),
    }
    assert (sdk.span("execute_tool find").attributes or {})["gen_ai.tool.type"] == "extension"


async def test_a_tool_out_of_band(sdk: Told) -> None:
    """Its call is over when it has run: nobody is told of its output."""
    tools = Tools()

    @tools.tool
    async def look() -> str:
        """Look."""
        return current()

    call = ev.FunctionCallItem(id="f", name="look", arguments="{}", call_id="call_1")
    async with session_on(sdk.telemetry(), tools) as (session, wire):
        wire.feed(ev.ResponseOutputItemDone(response_id="x", output_index=0, item=call))
        assert (await tools.call(call, session)).output == "execute_tool look"
        span = sdk.span("execute_tool look")
    assert sdk.parent(span) == "realtime_bus.session"
    assert (span.attributes or {})["realtime_bus.tool.outcome"] == "succeeded"


async def test_texts_are_shown_on_request_only(sdk: Told) -> None:
    """Transcripts, instructions, arguments, results and complaints; keys are blotted out."""
    server = RealtimeServer(Clerk())
    shown: list[str] = []
    for texts in (False, True):
        tools = Tools()

        @tools.tool
        async def clock(zone: str) -> str:
            """Tell the time."""
            return f"about nine in {zone}; api_key=abcdef"

        bus = Bus(plugins=[sdk.telemetry(texts=texts), tools], raise_handler_errors=True)
        sdk.ended.clear()
        async with (
            server.connect_memory() as transport,
            bus.session(
                transport, output_modalities=["text"], instructions="Use sk-abcdef1234."
            ) as session,
        ):
            await ask(session)
        shown.append("\n".join(f"{s.attributes} {s.events}" for s in sdk.ended))
    for word in ("What time", "It is nine", "about nine", "zone", "Use"):
        assert [word in each for each in shown] == [False, True], word
    assert "abcdef" not in "".join(shown)
    turn, whole = sdk.span("invoke_agent"), sdk.span("realtime_bus.session")
    said = json.loads(str((turn.attributes or {})["gen_ai.input.messages"]))
    assert said == [{"role": "user", "parts": [{"type": "text", "content": "What time is it?"}]}]
    _, last = sdk.spans("chat")
    assert json.loads(str((last.attributes or {})["gen_ai.output.messages"])) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "It is nine."}],
            "finish_reason": "stop",
        }
    ]
    call = sdk.span("execute_tool").attributes or {}
    assert call["gen_ai.tool.call.arguments"] == '{"zone": "mars"}'
    instructions = json.loads(str((whole.attributes or {})["gen_ai.system_instructions"]))
    assert instructions == [{"type": "text", "content": "Use [secret]"}]


async def test_what_a_person_said(sdk: Told) -> None:
    """A turn that was spoken has the transcript, if it came before the turn was over."""
    async with session_on(sdk.telemetry(texts=True)) as (_session, wire):
        wire.feed(STOPPED)
        wire.respond()
        heard = ev.ConversationItemInputAudioTranscriptionCompleted(
            item_id="u", content_index=0, transcript="good morning"
        )
        wire.feed(heard)
        wire.finish()
    assert "good morning" in str(sdk.span("invoke_agent").attributes or {})


async def test_who_serves_the_model(sdk: Told) -> None:
    """It is known by the address, or by what the application says."""
    for url, options, provider in (
        ("wss://api.openai.com/v1/realtime?model=asked", {}, "openai"),
        ("wss://me.openai.azure.com/openai/v1/realtime?model=asked", {}, "azure.ai.openai"),
        ("wss://api.x.ai/v1/realtime?model=asked", {}, "x_ai"),
        ("ws://127.0.0.1:8443/v1/realtime?model=asked", {}, "openai"),
        ("ws://127.0.0.1:8443/v1/realtime?model=asked", {"provider": "mine"}, "mine"),
    ):
        async with session_on(sdk.telemetry(**options)) as (session, wire):
            session.emit(ev.Connected(url=url))
            wire.respond()
            wire.finish()
        attributes = sdk.span("chat asked").attributes or {}
        assert attributes["gen_ai.provider.name"] == provider
        assert attributes["server.address"] == url.split("/")[2].split(":")[0]
        assert attributes["server.port"] == (443 if url.startswith("wss") else 8443)
        sdk.ended.clear()


async def test_tokens_and_cost(sdk: Told) -> None:
    """They are counted by kind; what they cost follows from the price table."""
    usage = ev.Usage(
        input_tokens=300,
        output_tokens=60,
        input_token_details=ev.InputTokenDetails(
            text_tokens=100,
            audio_tokens=200,
            cached_tokens=50,
            cached_tokens_details=ev.CachedTokensDetails(audio_tokens=50),
        ),
        output_token_details=ev.OutputTokenDetails(text_tokens=20, audio_tokens=40),
    )
    prices = {"gpt-x": Prices(input_audio=10_000.0, cached_audio=1000.0, output_audio=20_000.0)}
    telemetry = sdk.telemetry(prices=prices)
    async with session_on(telemetry) as (_session, wire):
        session = ev.RealtimeSession(id="sess_1", model="gpt-x-2026-01-01")
        wire.feed(ev.SessionUpdated(session=session))
        wire.respond()
        wire.feed(ev.ResponseDone(response=ev.Response(id="r", status="completed", usage=usage)))
    said = sdk.span("chat").attributes or {}
    assert said["gen_ai.usage.input_tokens"] == 300
    assert said["gen_ai.usage.cache_read.input_tokens"] == 50
    assert said["realtime_bus.usage.input_audio_tokens"] == 200
    assert said["realtime_bus.usage.output_audio_tokens"] == 40
    cost = 150 * 0.01 + 50 * 0.001 + 40 * 0.02
    assert said["realtime_bus.cost"] == pytest.approx(cost)
    assert (sdk.span("realtime_bus.session").attributes or {})[
        "realtime_bus.cost"
    ] == pytest.approx(cost)
    assert sdk.total("realtime_bus.cost") == pytest.approx(cost)
    kinds = {
        about["realtime_bus.token.kind"]: count
        for about, count in sdk.metrics()["realtime_bus.tokens"]
    }
    assert kinds == {
        "input_text": 100,
        "input_audio": 150,
        "cached_audio": 50,
        "output_text": 20,
        "output_audio": 40,
    }


async def test_a_session_that_outlives_its_connection(sdk: Told) -> None:
    """It is one span; what was being said has failed, and the next answer is a turn of its own."""
    server = RealtimeServer(ScriptResponder([ScriptTurn(assistant="word " * 400)]))
    bus = Bus(plugins=[sdk.telemetry()], raise_handler_errors=True)
    inside: list[str] = []
    bus.on(ev.SessionCreated, ev.Reconnected, ev.ResponseDone)(
        lambda _event: inside.append(current())
    )
    async with server.serve() as bound, bus.connect(bound.url_for("m")) as session:
        await session.send_text("hello")
        first = session.wait_for(ev.ResponseOutputAudioTranscriptDelta, timeout_s=60)
        session.respond()
        await first
        found = session.wait_for(ev.Reconnected, timeout_s=60)
        server.sessions[0].drop()
        await found
        await session.respond(output_modalities=["text"])
    whole = sdk.span("realtime_bus.session")
    assert inside == ["realtime_bus.session"] * len(inside)
    assert len(inside) >= 3
    assert (whole.attributes or {})["realtime_bus.session.reconnects"] == 1
    assert (whole.attributes or {})["server.address"] == "127.0.0.1"
    lost, answered = sdk.spans("chat")
    assert (lost.attributes or {})["error.type"] == "connection_lost"
    assert answered.status.status_code is StatusCode.UNSET
    assert len(sdk.spans("invoke_agent")) == 2
    [reconnecting] = sdk.events("realtime_bus.reconnecting")
    assert reconnecting["realtime_bus.reconnect.attempt"] == 1
    [reconnected] = sdk.events("realtime_bus.reconnected")
    assert reconnected["realtime_bus.reconnect.cause"] == "lost"
    assert sdk.total("realtime_bus.reconnects") == 1
