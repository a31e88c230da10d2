"""openai-agents: an agent with a tool, on the session that it makes of the connection."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import events as ev

from . import _stage as on_stage
from ._stage import Heard, said, speaks_up, stage

pytest.importorskip("agents.realtime", reason="needs the group interop")

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimePlaybackTracker, RealtimeRunner
from agents.realtime.model_inputs import RealtimeModelSendRawMessage

pytestmark = on_stage.MARKS


def of_type(kind: str) -> Any:
    """Return what tells an event of the session by its type."""
    return lambda event: event.type == kind


def raw(kind: str) -> Any:
    """Return what tells an event of the server's by its type."""
    return lambda event: (
        event.type == "raw_model_event"
        and event.data.type == "raw_server_event"
        and event.data.data["type"] == kind
    )


async def test_openai_agents_hold_a_whole_conversation() -> None:
    """Settings, speech, transcription, tool, answer, barge-in, text, out of band, close."""
    asked: list[str] = []

    @function_tool
    async def look_up(dish: str) -> str:
        """How long a dish takes."""
        asked.append(dish)
        return on_stage.FOUND

    agent = RealtimeAgent(name="Cook", instructions=on_stage.INSTRUCTIONS, tools=[look_up])
    tracker = RealtimePlaybackTracker()
    heard = Heard()
    holds = False  # what comes is played at once, while nobody says otherwise

    async def listen(session: Any) -> None:
        async for event in session:
            assert event.type != "error", event.error
            if event.type == "audio" and not holds:
                tracker.on_play_bytes(event.item_id, event.content_index, event.audio.data)
            elif event.type == "audio_end" and not holds:  # played in whole milliseconds
                tracker.on_play_ms(event.item_id, event.content_index, 1)
            heard.note(event)

    async with stage() as on, anyio.create_task_group() as tasks:
        runner = RealtimeRunner(agent)
        settings = {
            "model_name": on_stage.MODEL,
            "audio": {
                "input": {
                    "transcription": {"model": "gpt-4o-mini-transcribe"},
                    "turn_detection": {"type": "server_vad", "interrupt_response": True},
                },
                "output": {"voice": on_stage.VOICE},
            },
        }
        async with await runner.run(
            model_config={
                "api_key": "none",
                "url": on.url_for_any,
                "initial_model_settings": settings,
                "playback_tracker": tracker,
            }
        ) as session:
            async with on.witness() as witness:
                tasks.start_soon(listen, session)
                # settings
                await heard.get(raw("session.updated"))
                on_stage.check_settings(witness)

                # speech, and what was said
                for pcm in said(on_stage.QUESTION):
                    await session.send_audio(pcm)
                await heard.get(raw("conversation.item.input_audio_transcription.completed"))

                # tool
                end = await heard.get(of_type("tool_end"))
                assert (end.output, asked) == (on_stage.FOUND, ["pasta"])

                # spoken answer
                await heard.get(of_type("audio_end"))
                await heard.get(of_type("agent_end"), nth=2)
                (*_, told) = heard.of(of_type("history_updated"))
                words = [
                    part.transcript
                    for item in told.history
                    if item.type == "message"
                    for part in item.content
                ]
                assert words == [on_stage.QUESTION, on_stage.ANSWER]

                # barge-in
                holds = True
                for pcm in said(on_stage.TELL_ALL):
                    await session.send_audio(pcm)
                before = len(heard.of(of_type("audio")))
                audio = await heard.get(of_type("audio"), nth=before + on_stage.DELTAS)
                tracker.on_play_ms(audio.item_id, audio.content_index, on_stage.HEARD_MS)
                begin, rest = speaks_up()
                for pcm in begin:
                    await session.send_audio(pcm)
                interrupted = await heard.get(of_type("audio_interrupted"), nth=2)
                assert interrupted.item_id == audio.item_id
                holds = False
                cut = await witness.get(ev.ConversationItemTruncated)
                assert (cut.item_id, cut.audio_end_ms) == (audio.item_id, on_stage.HEARD_MS)
                for pcm in rest:
                    await session.send_audio(pcm)
                await heard.get(of_type("agent_end"), nth=4)

                # text
                await session.send_message(on_stage.WRITTEN)
                await heard.get(of_type("agent_end"), nth=5)

                # out of band
                message = {"type": "response.create", "other_data": {"response": on_stage.APART}}
                await session.model.send_event(RealtimeModelSendRawMessage(message=message))
                await heard.get(raw("response.output_text.done"))
                await heard.get(of_type("agent_end"), nth=6)
                on_stage.check_conversation(witness)

                # close
                await session.close()
                await witness.closed()


async def test_openai_agents_interrupt_at_once() -> None:
    """Nothing was heard: the answer is truncated at 0 ms, and the next one comes."""
    heard, tracker = Heard(), RealtimePlaybackTracker()

    async def listen(session: Any) -> None:
        async for event in session:
            assert event.type != "error", event.error
            heard.note(event)

    async with stage(greeting=on_stage.STORY) as on, anyio.create_task_group() as tasks:
        config = {"api_key": "none", "url": on.url_for_any, "playback_tracker": tracker}
        runner = RealtimeRunner(RealtimeAgent(name="Cook"))
        async with await runner.run(model_config=config) as session:
            tasks.start_soon(listen, session)
            await session.send_message(on_stage.TELL_ALL)
            audio = await heard.get(of_type("audio"))
            tracker.on_play_ms(audio.item_id, audio.content_index, 0)
            await session.interrupt()
            cut = (await heard.get(raw("conversation.item.truncated"))).data.data
            assert (cut["item_id"], cut["audio_end_ms"]) == (audio.item_id, 0)
            await heard.get(of_type("agent_end"))
            await session.send_message(on_stage.QUESTION)
            await heard.get(of_type("agent_end"), nth=2)
