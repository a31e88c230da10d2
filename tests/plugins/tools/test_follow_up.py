"""When the model is asked to go on: never into speech, never twice for one thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from realtime_bus import events as ev
from realtime_bus_plugins.tools import Tools, _follow_up

from ._model import Model, call, model_with

pytestmark = pytest.mark.anyio

STARTED = ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="u")
STOPPED = ev.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="u")
CLEARED = ev.InputAudioBufferCleared()


def session_with(detection: Any) -> ev.RealtimeSession:
    """Return a session's echo."""
    source = ev.AudioInputConfig(turn_detection=detection)
    return ev.RealtimeSession(id="sess", audio=ev.AudioConfig(input=source))


def echo_tools() -> Tools:
    """Return tools with one that answers at once."""
    tools = Tools()
    tools.tool(name="ping", in_thread=False)(lambda: "pong")
    return tools


def confirm(model: Model, *call_ids: str) -> None:
    """Let the server confirm outputs."""
    for call_id in call_ids:
        item = ev.FunctionCallOutputItem(id=f"out_{call_id}", call_id=call_id, output="")
        model.say(ev.ConversationItemAdded(item=item))


async def answered(model: Model, *call_ids: str, response_id: str = "r") -> None:
    """Play a response with calls, and wait until they have been answered."""
    model.respond(*(call(name, "ping") for name in call_ids), response_id=response_id)
    await model.until(lambda: {name for name, _ in model.outputs} >= set(call_ids))


async def test_nobody_is_asked_to_talk_over_a_person() -> None:
    """The follow-up waits for the end of speech, and where the server is silent comes then."""
    opened = session_with(ev.ServerVad(create_response=False))
    async with model_with(echo_tools(), opened=opened) as (_, model):
        model.say(STARTED)
        await answered(model, "c")
        assert model.creates == 0
        model.say(STOPPED)
        await model.until(lambda: model.creates == 1)


@pytest.mark.parametrize(
    "detection", [ev.ServerVad(), ev.SemanticVad(), ev.UnknownObject({"type": "clever_vad"})]
)
async def test_the_servers_answer_to_speech_takes_the_follow_ups_place(detection: Any) -> None:
    """It begins with all outputs confirmed: one answer is enough."""
    opened = session_with(detection)
    async with model_with(echo_tools(), opened=opened) as (_, model):
        model.say(STARTED)
        await answered(model, "c")
        confirm(model, "c")
        model.say(STOPPED)
        assert model.creates == 0
        model.respond(response_id="vad")
        assert model.creates == 0
        await answered(model, "d", response_id="next")
        await model.until(lambda: model.creates == 1)


async def test_an_output_that_may_have_come_too_late_is_followed_up() -> None:
    """A response that began before the output was confirmed does not take the place."""
    async with model_with(echo_tools()) as (_, model):
        model.say(STARTED)
        await answered(model, "c", "d")
        confirm(model, "c")
        model.say(STOPPED)
        model.created("vad")
        confirm(model, "d")
        assert model.creates == 0
        model.done(response_id="vad")
        await model.until(lambda: model.creates == 1)


async def test_a_response_with_open_calls_is_waited_for() -> None:
    """Two rounds overlap: one response.create, when all calls of both are answered."""
    tools, gates = echo_tools(), {name: anyio.Event() for name in ("a", "b")}

    @tools.tool
    async def wait(gate: str) -> str:
        await gates[gate].wait()
        return gate

    async with model_with(tools) as (_, model):
        model.respond(call("a", "wait", '{"gate": "a"}'), response_id="r1")
        model.created("r2")
        gates["a"].set()
        await model.until(lambda: ("a", "a") in model.outputs)
        item = call("b", "wait", '{"gate": "b"}')
        model.item_done(item, response_id="r2")
        model.done(item, response_id="r2")
        assert model.creates == 0
        gates["b"].set()
        await model.until(lambda: model.creates == 1)
        assert model.order() == ["a", "b", "create"]


async def test_a_slow_call_of_the_past_holds_up_nobody() -> None:
    """The conversation has gone on: a later round is followed up while the old call still runs."""
    tools, gate = echo_tools(), anyio.Event()

    @tools.tool
    async def slow() -> str:
        await gate.wait()
        return "at last"

    async with model_with(tools) as (_, model):
        model.respond(call("a", "slow"), response_id="r1")
        await answered(model, "b", response_id="r2")
        await model.until(lambda: model.creates == 1)
        model.respond(response_id="answer")
        gate.set()
        await model.until(lambda: ("a", "at last") in model.outputs)
        assert model.order() == ["b", "create", "a"]


@pytest.mark.parametrize(
    "end",
    [
        lambda model: model.say(CLEARED),
        lambda model: model.say(ev.SessionUpdated(session=session_with(None))),
    ],
)
async def test_speech_that_is_thrown_away_holds_up_nobody(end: Callable[[Model], None]) -> None:
    """A cleared buffer, or turn detection switched off, ends what nobody will call ended."""
    async with model_with(echo_tools()) as (_, model):
        model.say(STARTED)
        await answered(model, "c")
        end(model)
        await model.until(lambda: model.creates == 1)


@pytest.mark.parametrize("said", [[STARTED, STOPPED], [STARTED]])
async def test_what_never_comes_holds_up_nobody(
    said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer to speech, or the end of speech: after a while the model is asked all the same."""
    monkeypatch.setattr(_follow_up, "PATIENCE_S", 0.001)
    monkeypatch.setattr(_follow_up, "SPEECH_PATIENCE_S", 0.002)
    async with model_with(echo_tools()) as (_, model):
        model.say(*said)
        await answered(model, "c")
        await model.until(lambda: model.creates == 1)


async def test_a_person_is_waited_for_longer_than_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The patience that a server gets does not end what somebody says."""
    monkeypatch.setattr(_follow_up, "PATIENCE_S", 0.0)
    async with model_with(echo_tools()) as (_, model):
        model.say(STARTED)
        await answered(model, "c")
        await anyio.wait_all_tasks_blocked()
        assert model.creates == 0
        model.say(STOPPED)
        await model.until(lambda: model.creates == 1)


async def test_a_follow_up_that_is_refused_or_fails_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rate limit, then a response that fails: after a pause each, until one ends well."""
    monkeypatch.setattr(_follow_up, "_FIRST_PAUSE_S", 0.001)
    async with model_with(echo_tools()) as (_, model):
        await answered(model, "c")
        await model.until(lambda: model.creates == 1)
        model.refuse_create("rate_limit_exceeded")
        await model.until(lambda: model.creates == 2)
        model.answer_create("failing", "failed")
        await model.until(lambda: model.creates == 3)
        model.answer_create("answer")
        await anyio.wait_all_tasks_blocked()
        assert model.creates == 3
